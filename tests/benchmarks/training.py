"""Networks trained from scratch on Fashion-MNIST: dense, low-rank by several recipes, compressed.

    pip install -e '.[plot]'
    python tests/benchmarks/training.py --data DIR --images 60000 --epochs 10 --amp

`DIR` holds Fashion-MNIST as four gzipped IDX files, as the Debian package `dataset-fashion-mnist`
installs them in `/usr/share/datasets/fashion-mnist`. All recipes of a network have the same images,
epochs, batches and learning rates; accuracies are those on all 10,000 test images. Parameters are
those of the whole network. CPU seconds are those of training alone, after the switch where there is
one. Recipes that begin dense go on from what the dense network of their seed was after some epoch,
or after all of fewer epochs; its states are kept with its optimizer's. Rows are kept in `--out` and
those that are there are not made again.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from fitting import Data
from recipes import DENSE, RECIPES, dense
from rich.console import Console
from rich.table import Table
from trained_networks import NETWORKS

import tenfold
from tenfold.demo.data import scaled
from tenfold.demo.train import read_idx

Rows = dict[str, dict[str, Any]]
BELOW = 5  # points of accuracy that are drawn below the lowest end


def load(folder: Path, count: int, batch: int, amp: bool) -> Data:
    """The first `count` training images, and all test images."""
    found: Data = {"batch": batch, "amp": amp}
    for part, name, most in (("train", "train", count), ("test", "t10k", None)):
        images = scaled(read_idx(folder / f"{name}-images-idx3-ubyte.gz")[:most])
        labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz").long()[:most]
        found[part] = (images, labels)
    return found


def main(
    data: Annotated[Path, typer.Option(help="folder with the four gzipped IDX files")],
    network: Annotated[list[str], typer.Option(help="By name; both by default.")] = [*NETWORKS],  # noqa: B006
    budget: Annotated[list[float], typer.Option(help="Of the parameters.")] = [0.25, 0.1],  # noqa: B006
    recipe: Annotated[list[str], typer.Option(help="By name; all by default.")] = [*RECIPES],  # noqa: B006
    images: Annotated[int, typer.Option()] = 60000,
    epochs: Annotated[int, typer.Option(min=4)] = 10,
    batch: Annotated[int, typer.Option()] = 128,
    seed: Annotated[list[int], typer.Option(help="Three by default.")] = [0, 1, 2],  # noqa: B006
    amp: Annotated[bool, typer.Option(help="Layers in bfloat16.")] = False,
    out: Annotated[Path, typer.Option(help="Where rows go.")] = Path("trained"),
) -> None:
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)

    def named(epochs: int) -> str:
        return f"{images}-{epochs}-{batch}{'-amp' if amp else ''}"

    path = out / f"rows-{named(epochs)}.json"
    rows: Rows = json.loads(path.read_text()) if path.exists() else {}
    given = load(data, images, batch, amp)

    def row(key: str, make: Callable[[], dict[str, Any]], seed: int) -> None:
        if key not in rows:
            torch.manual_seed(seed)
            rows[key] = make()
            path.write_text(json.dumps(rows, indent=1))
            print(key, [f"{s:.4f}" for s in rows[key]["scores"]], flush=True)

    for one in seed:
        for name in network:
            places = {n: out / f"{name}-{named(n)}-{one}.pt" for n in range(1, epochs + 1)}
            kept = places[epochs]
            row(f"{name}|{one}|1|{DENSE}", partial(dense, name, given, epochs, kept), one)
            given |= {"kept": torch.load(kept), "places": places}
            for part in budget:
                for how in recipe:
                    make = partial(RECIPES[how], name, given, epochs, part)
                    row(f"{name}|{one}|{part:g}|{how}", make, one)
    Console(width=170).print(table(rows))
    draw(rows, out / f"curves-{named(epochs)}.svg")


def table(rows: Rows) -> Table:
    """Accuracy by seed, its mean and that of the differences to dense, with standard errors."""
    shown = Table(title=f"torch {torch.__version__}, tenfold {tenfold.__version__}")
    for title in ("network", "recipe", "parameters", "MACs", "accuracy by seed, %"):
        shown.add_column(title, justify="left" if title in ("network", "recipe") else "right")
    for title in ("mean", "to dense", "CPU s an epoch"):
        shown.add_column(title, justify="right")
    together: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for key, row in rows.items():
        name, seed, part, how = key.split("|")
        together[name, part, how][seed] = row
    for (name, part, how), found in sorted(
        together.items(), key=lambda one: (one[0][0], -float(one[0][1]))
    ):
        ends = {seed: 100 * found[seed]["scores"][-1] for seed in sorted(found)}
        whole = together[name, "1", DENSE]
        apart = [end - 100 * whole[seed]["scores"][-1] for seed, end in ends.items()]
        trained = [s for row in found.values() for s in row["seconds"][row.get("switched", 0) :]]
        sizes = [
            sorted({f"{row[size] / whole[seed][size]:.3f}" for seed, row in found.items()})
            for size in ("parameters", "macs")
        ]
        shown.add_row(
            name,
            how,
            *(" to ".join([one[0], *one[1:][-1:]]) for one in sizes),
            ", ".join(f"{seed}: {end:.2f}" for seed, end in ends.items()),
            spread([*ends.values()]),
            "" if part == "1" else spread(apart),
            f"{statistics.mean(trained):.0f}",
        )
    return shown


def spread(values: list[float]) -> str:
    """Their mean, and its standard error where there are several."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return f"{statistics.mean(values):.2f}" + (f" ± {error:.2f}" if error is not None else "")


def draw(rows: Rows, path: Path) -> None:
    """Accuracy by epoch, from a switch on; a panel for each network and budget. Means of seeds,
    of the recipes that all of them were trained by."""
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "tenfold"
    keys = [key.split("|") for key in rows]
    colors = {how: f"C{index}" for index, how in enumerate(dict.fromkeys(key[3] for key in keys))}
    panels = sorted({(name, part) for name, _, part, _ in keys if part != "1"}, reverse=True)
    size = (4 * len(panels), 3.8)
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=size, squeeze=False, layout="constrained"
    )
    for axis, (name, part) in zip(axes[0], panels, strict=True):
        curves, begun, ends = defaultdict(list), {}, []
        for key, row in rows.items():
            mine, _, theirs, how = key.split("|")
            if mine == name and theirs in (part, "1"):
                curves[how].append([100 * score for score in row["scores"]])
                begun[how] = min(begun.get(how, len(row["scores"])), row.get("switched", 1))
        for how, found in curves.items():
            if len(found) < len(curves[DENSE]):
                continue  # not of the same seeds
            means = [statistics.mean(scores) for scores in zip(*found, strict=True)]
            ends.append(means[-1])
            if len(means) == 1:
                axis.axhline(means[0], linestyle=":", color=colors[how], label=how)
            else:
                since = range(begun[how], len(means) + 1)
                means = means[begun[how] - 1 :]
                axis.plot(since, means, marker=".", color=colors[how], label=how)
        axis.set_title(f"{name}, {part} of the parameters")
        axis.set_xlabel("epoch")
        axis.set_ylim(bottom=min(ends) - BELOW)
    axes[0][0].set_ylabel("test accuracy, %")
    named = axes[0][0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=len(panels), fontsize=7)
    pyplot.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    typer.run(main)
