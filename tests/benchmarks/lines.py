"""Time layers on few short lines, and on images of one column, beside what one would write by hand.

    python tests/benchmarks/lines.py [--threads 2] [--rounds 101] [--columns 3]

Each round runs the three in turn: the layer, the same convolutions as an `nn.Sequential`, and the
dense one. Prints a Markdown table: microseconds of the dense one, and how often the layer goes into
the others, medians; in eval, and a step of training: forward and backward.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from tenfold import FactorizedConv, to_plain

RANK = 0.25  # of the parameters
FORMATS = ("spatial_svd", "tucker")
# batch, in, out, taps, stride, length; a line pads to keep its length, a column does not
LINES = [
    (8, 129, 128, 3, 1, 4),
    (8, 128, 64, 3, 2, 4),
    (16, 64, 64, 3, 1, 16),
    (32, 64, 64, 5, 1, 8),
]
COLUMNS = [(16, 1, 1024, 512, 4, 1532), (16, 1024, 128, 64, 1, 191), (16, 256, 512, 64, 1, 79)]


def cases() -> list[tuple[str, nn.Module, Tensor]]:
    """What each is called, its dense convolution and an input."""
    found: list[tuple[str, nn.Module, Tensor]] = []
    for batch, given, made, taps, stride, length in LINES:
        line: nn.Module = nn.Conv1d(given, made, taps, stride, taps // 2)
        name = f"line, {batch}×{given}×{length} → {made}, {taps} taps"
        found.append((name, line, torch.randn(batch, given, length)))
    for batch, given, made, taps, stride, length in COLUMNS:
        column = nn.Conv2d(given, made, (taps, 1), (stride, 1))
        name = f"column, {batch}×{given}×{length} → {made}, {taps} taps"
        found.append((name, column, torch.randn(batch, given, length, 1)))
    return found


def timed(run: Callable[[Tensor], Any], x: Tensor) -> float:
    started = time.perf_counter()
    run(x)
    return 1e6 * (time.perf_counter() - started)


def inferred(module: nn.Module) -> Callable[[Tensor], Any]:
    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            y: Tensor = module(x)
        return y

    return run


def trained(module: nn.Module) -> Callable[[Tensor], Any]:
    def run(x: Tensor) -> None:
        module.zero_grad()
        module(x.requires_grad_()).sum().backward()

    return run


def main(
    threads: Annotated[int, typer.Option(help="Of every side.")] = 1,
    rounds: Annotated[int, typer.Option(help="Of timing, in turn.")] = 101,
    columns: Annotated[int, typer.Option(help="Rounds of columns, which take longer.")] = 3,
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    print(f"{threads} threads, torch {torch.__version__}\n")
    print(
        "| layer | format | dense, µs | by hand | dense | training: dense, µs | by hand | dense |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, dense, x in cases():
        count = columns if x.dim() == 4 else rounds
        for factorization in FORMATS:
            layer = FactorizedConv.from_conv(dense, rank=RANK, factorization=factorization)
            sides = [layer, to_plain(layer), dense]
            cells = []
            for way, mode in ((inferred, False), (trained, True)):
                runs = [way(one.train(mode)) for one in sides]
                for run in runs:
                    run(x.detach())
                times = [[timed(run, x.detach()) for run in runs] for _ in range(count)]
                ours, hand, whole = (median(column) for column in zip(*times, strict=True))
                cells += [f"{whole:.0f}", f"{hand / ours:.2f}", f"{whole / ours:.2f}"]
            print("|", " | ".join([name, factorization, *cells]), "|", flush=True)


if __name__ == "__main__":
    typer.run(main)
