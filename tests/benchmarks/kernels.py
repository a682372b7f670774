"""The single convolutions behind the speed of layers: PyTorch's call beside the one that we make.

    python tests/benchmarks/kernels.py [--threads 1]

Milliseconds and GFLOP/s, in turn, the lower quartile; float32, channels last, eval. The last rows
are microseconds of a whole call where there is next to nothing to compute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tenfold import FactorizedConv
from tenfold.network import Geometry
from tenfold.run.fixed import FixedConvolution

sys.path.insert(0, str(Path(__file__).parent))
from layers import in_turn

SHAPES = (  # in and out channels, taps, groups, map, images
    (512, 512, 3, 1, 7, 1),
    (64, 64, 3, 1, 56, 1),
    *((64, 64, 1, 1, 56, images) for images in (1, 8)),
    *((128, 128, 1, 1, 28, images) for images in (1, 8)),
    *((256, 272, 1, 1, 14, images) for images in (1, 8)),
    *((512, 560, 1, 1, 7, images) for images in (1, 8)),
    (128, 256, 3, 128, 28, 1),
    (256, 512, 3, 256, 14, 8),
)


def convolutions() -> Iterator[tuple[str, int, dict[str, Callable[[], Any]]]]:
    """Each shape's words, multiply-accumulates, and the two ways of running it."""
    for channels, out, taps, groups, size, images in SHAPES:
        conv = nn.Conv2d(channels, out, taps, padding=taps // 2, groups=groups, bias=False)
        conv.to(memory_format=torch.channels_last)
        x = torch.randn(images, channels, size, size).to(memory_format=torch.channels_last)
        half = (taps // 2,) * 2
        geometry = Geometry((taps, taps), (1, 1), half, (1, 1), (0, 0))
        copies = out // channels if groups > 1 else 1
        weight = conv.weight.detach()
        fixed = FixedConvolution(weight, None, geometry, groups * copies, copies=copies)
        words = f"{channels}→{out}, {taps}×{taps}, {size}², {images}"
        macs = images * size**2 * weight.numel()
        yield words, macs, {"conv2d": bound(conv, x), "ours": bound(fixed.way(x), x)}


def bound(run: Callable[[Tensor], Any], x: Tensor) -> Callable[[], Any]:
    return lambda: run(x)


@torch.no_grad()
def main(threads: Annotated[int, typer.Option()] = 1) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    table = Table(title=f"{threads} threads, torch {torch.__version__}")
    for title in ("convolution, images", "conv2d ms", "GFLOP/s", "ours ms", "GFLOP/s", "×"):
        table.add_column(title, justify="right")
    for words, macs, runs in convolutions():
        times = in_turn(runs, 0.3, "cpu")
        cells = [f"{ms:.3f}|{2e-6 * macs / ms:.0f}" for ms in times.values()]
        row = [part for cell in cells for part in cell.split("|")]
        table.add_row(words, *row, f"{times['conv2d'] / times['ours']:.2f}")
    layer = FactorizedConv(8, 8, 3, order=2, padding=1, rank=4, factorization="tucker").eval()
    layer.to(memory_format=torch.channels_last)
    x = torch.randn(1, 8, 6, 6).to(memory_format=torch.channels_last)
    calls = in_turn({"ours": bound(layer, x), "plain": bound(layer.to_sequential(), x)}, 0.3, "cpu")
    Console().print(table)
    for name, milliseconds in calls.items():
        Console().print(f"a call of three small convolutions, {name}: {milliseconds * 1000:.0f} µs")


if __name__ == "__main__":
    typer.run(main)
