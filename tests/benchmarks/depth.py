"""Time and passes of one `tenfold.compress` against depth: is a layer of a deep network as cheap?

    python tests/benchmarks/depth.py                          # ResNets of 18 to 152 at 64²
    python tests/benchmarks/depth.py --network resnet50 --network r3d_18 --threads 2

Random weights, a quarter of the MACs, defaults. `a layer` is over all convolutions and linear
layers. CPU seconds are those of all threads.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from networks.resnet import DEPTHS, resnet, settled
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import tenfold

Case = tuple[nn.Module, list[Tensor]]


def small(depth: int) -> Case:
    """A ResNet at 64², 32 images."""
    batches = list(torch.randn(32, 3, 64, 64).split(8))
    return settled(resnet(depth, classes=100), batches[0]), batches


def resnet50() -> Case:
    """ResNet-50, 64 images of 224²."""
    batches = list(torch.randn(64, 3, 224, 224).split(8))
    return settled(resnet(50), batches[0]), batches


def r3d_18() -> Case:
    """Its three-dimensional kin of 18 layers, 16 clips of 16 × 112²."""
    batches = list(torch.randn(16, 3, 16, 112, 112).split(2))
    return settled(resnet(18, order=3, classes=400), batches[0]), batches


CASES: dict[str, Callable[[], Case]] = {
    **{f"resnet{depth}_64": lambda depth=depth: small(depth) for depth in DEPTHS},  # type: ignore[misc]
    "resnet50": resnet50,
    "r3d_18": r3d_18,
}
DEFAULT = [f"resnet{depth}_64" for depth in DEPTHS]


def main(
    network: Annotated[list[str], typer.Option(help=f"Of {', '.join(CASES)}.")] = DEFAULT,
    budget: Annotated[float, typer.Option(help="Of the MACs.")] = 0.25,
    threads: Annotated[int, typer.Option()] = 1,
) -> None:
    torch.set_num_threads(threads)
    shown = Table(title=f"torch {torch.__version__}, {threads} threads")
    for title in ("network", "layers", "seconds", "CPU s", "CPU s a layer", "passes", "peak GB"):
        shown.add_column(title, justify="left" if title == "network" else "right")
    for name in network:
        torch.manual_seed(0)
        model, batches = CASES[name]()
        wall, cpu = time.perf_counter(), time.process_time()
        made = tenfold.compress(
            model, budget=budget, example_inputs=batches[0], calibration=batches
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        count = len(made.report.layers)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        numbers = (wall, cpu, cpu / count, made.report.passes, peak)
        shown.add_row(name, str(count), *(f"{one:.2f}" for one in numbers))
    Console(width=100).print(shown)


if __name__ == "__main__":
    typer.run(main)
