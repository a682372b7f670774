"""`auto` beside dense in its best memory format: the worst ratio over formats, ranks and shapes.

    python tests/benchmarks/auto.py [--threads 2] [--batch 8] [--json FILE]

Layers C×C×3×3 with random kernels, in eval mode without gradients, float32. Each layer is decided
by measuring anew, then timed in turn with `nn.Conv2d` and, as the floor of the method, a second
`nn.Conv2d` of the same shape: what that ratio strays from 1 is noise.
"""

from __future__ import annotations

import json
import os
from functools import partial
from math import inf
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import nn

from tenfold import FactorizedConv, factorizations
from tenfold.tuning.decision import way_in_words
from tenfold.tuning.timing import in_turn

LAYERS = ((64, 56), (128, 28), (256, 14), (512, 7))
RANKS = (0.1, 0.25, 0.5, 0.75, 1.0)
CPU = torch.device("cpu")


def best_input(conv: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """A random input in the memory format in which dense is fastest."""
    x = torch.randn(shape)
    inputs = [x, x.contiguous(memory_format=torch.channels_last)]
    times = in_turn([partial(conv, one) for one in inputs], CPU, hopeless=inf)
    return min(zip(times, inputs, strict=True), key=lambda pair: pair[0].milliseconds)[1]


@torch.no_grad()
def main(
    threads: Annotated[int, typer.Option()] = 1,
    batch: Annotated[int, typer.Option()] = 1,
    layers: Annotated[str, typer.Option(help="Channels, as 64,512.")] = "64,128,256,512",
    to: Annotated[Path | None, typer.Option("--json", help="Append the figures here.")] = None,
) -> None:
    os.environ["TENFOLD_CACHE"] = "off"
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    console, found = Console(), []
    for channels, size in LAYERS:
        if str(channels) not in layers.split(","):
            continue
        conv = nn.Conv2d(channels, channels, 3, padding=1).eval()
        same = nn.Conv2d(channels, channels, 3, padding=1).eval()
        x = best_input(conv, (batch, channels, size, size))
        for name in factorizations.names():
            for rank in RANKS:
                layer = FactorizedConv.from_conv(
                    conv,
                    rank=rank,
                    factorization=name,
                    implementation="auto",
                    decompose_weights=False,
                )
                decision = layer.tune(x, again=True)
                dense, floor, mine = in_turn(
                    [partial(conv, x), partial(same, x), partial(layer, x)], CPU, hopeless=inf
                )
                row = {
                    "layer": f"{channels}, {size}², {batch}",
                    "threads": threads,
                    "format": name,
                    "rank": rank,
                    "runs": way_in_words(decision),
                    "dense_ms": round(dense.milliseconds, 4),
                    "ratio": round(mine.milliseconds / dense.milliseconds, 4),
                    "floor": round(floor.milliseconds / dense.milliseconds, 4),
                }
                found.append(row)
                console.print(*row.values(), soft_wrap=True)
    show(found, console)
    if to is not None:
        with to.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in found)


def show(found: list[dict], console: Console) -> None:
    """The worst of each layer, and how often dense was chosen."""
    title = f"time of auto over dense, {torch.get_num_threads()} threads, torch {torch.__version__}"
    table = Table(title=title, box=SIMPLE_HEAD)
    for title in ("C, map, batch", "worst", "of", "median", "best", "dense", "noise"):
        table.add_column(title, justify="right", no_wrap=True)
    for layer in dict.fromkeys(row["layer"] for row in found):
        rows = sorted((row for row in found if row["layer"] == layer), key=lambda r: r["ratio"])
        worst, middle, best = rows[-1], rows[len(rows) // 2], rows[0]
        dense = sum(row["runs"].startswith("dense") for row in rows)
        noise = sorted(abs(row["floor"] - 1) for row in rows)[int(0.9 * len(rows))]
        words = (layer, f"{worst['ratio']:.2f}", f"{worst['format']} {worst['rank']}")
        words += (
            f"{middle['ratio']:.2f}",
            f"{best['ratio']:.2f}",
            f"{dense}/{len(rows)}",
            f"±{noise:.2f}",
        )
        table.add_row(*map(str, words))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
