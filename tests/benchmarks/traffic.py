"""How many multiply-accumulates moving one element costs: what a factorized layer must not lose.

    python tests/benchmarks/traffic.py --threads 1

A factorized convolution of few channels has fewer multiply-accumulates (MACs) than the dense one
and more activations to read and write. Convolutions of few channels are timed in several formats
and ranks beside dense, in turn, in both layouts. Then, for some prices of an element: how many of
them come out no cheaper than dense, how many of those are indeed slower, how many faster by more
than a tenth, and how many of the others are slower by more than a tenth.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import inf
from typing import Annotated, NamedTuple

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from tenfold import FactorizedConv
from tenfold.tuning.timing import in_turn

LAYERS = (  # channels in and out, side of the map, batch, kernel
    *((1, 32, 48, 8, 3), (3, 32, 46, 16, 3), (3, 64, 112, 1, 3), (3, 16, 64, 4, 3)),
    *((3, 64, 112, 1, 7), (3, 32, 64, 4, 5), (4, 32, 46, 8, 3), (6, 32, 46, 8, 3)),
    *((8, 16, 46, 8, 3), (8, 32, 46, 8, 3), (12, 24, 46, 8, 3), (16, 16, 46, 8, 3)),
    *((32, 32, 46, 4, 3), (32, 3, 46, 8, 3), (64, 64, 28, 4, 3), (24, 144, 28, 4, 1)),
    *((16, 96, 56, 2, 1), (96, 24, 28, 4, 1), (64, 64, 28, 4, 1), (256, 256, 14, 2, 1)),
)
PRICES = (0, 8, 16, 24, 32, 48, 64)


class Timed(NamedTuple):
    """MACs and traffic of a factorized layer and of the dense one, and the ratio of their times."""

    macs: int
    traffic: int
    dense_macs: int
    dense_traffic: int
    ratio: float

    def saves(self, price: float) -> bool:
        """Whether it is cheaper than dense at this price of an element."""
        mine = self.macs + price * self.traffic
        return mine < self.dense_macs + price * self.dense_traffic


def factorized(conv: nn.Conv2d) -> Iterator[FactorizedConv]:
    """A convolution in some formats, at a quarter and at half of its ranks, and at the whole."""
    outer, inner = conv.out_channels, conv.in_channels
    few = min(outer, inner)
    asked = {
        "tucker": [
            (outer // 4, inner),
            (outer // 2, inner),
            (outer // 2, inner // 2),
            (outer // 4, inner // 4),
        ],
        "spatial_svd": [few // 4, few // 2, few, 8],
        "channel_svd": [outer // 4, outer // 2, few // 2, few // 4],
    }
    for name, ranks in asked.items():
        for rank in ranks:
            least = tuple(max(1, r) for r in rank) if isinstance(rank, tuple) else max(1, rank)
            yield FactorizedConv.from_conv(
                conv, rank=least, factorization=name, decompose_weights=False
            ).eval()


@torch.no_grad()
def timed(inner: int, outer: int, side: int, batch: int, kernel: int) -> Iterator[Timed]:
    """One of the layers in both layouts, each format and rank beside dense."""
    conv = nn.Conv2d(inner, outer, kernel, padding=kernel // 2).eval()
    x = torch.randn(batch, inner, side, side)
    size = (side, side)
    dense = (conv.weight.numel() * side**2, (inner + outer) * side**2)
    for layout in (torch.contiguous_format, torch.channels_last):
        given, beside = x.contiguous(memory_format=layout), conv.to(memory_format=layout)
        for layer in {repr(one): one for one in factorized(conv)}.values():
            macs, traffic = layer.plan.macs(size), layer.plan.traffic(size)
            if macs < dense[0]:
                runs = [partial(layer, given), partial(beside, given)]
                mine, other = in_turn(runs, given.device, seconds=0.2, hopeless=inf)
                yield Timed(macs, traffic, *dense, mine.milliseconds / other.milliseconds)


def main(threads: Annotated[int, typer.Option(help="For both sides.")] = 2) -> None:
    """Time them and show what each price gets right."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    found = [one for layer in LAYERS for one in timed(*layer)]
    shown = Table(
        *("MACs an element", "left out", "slower", "10% faster", "10% slower among the rest"),
        title=f"{len(found)} layers of fewer MACs, {threads} threads, torch {torch.__version__}",
    )
    for price in PRICES:
        out = [one.ratio for one in found if not one.saves(price)]
        rest = [one.ratio for one in found if one.saves(price)]
        counts = (len(out), *(sum(test) for test in _tests(out, rest)))
        shown.add_row(*map(str, (price, *counts)))
    Console(width=100).print(shown)


def _tests(out: list[float], rest: list[float]) -> tuple[list[bool], list[bool], list[bool]]:
    return [r > 1 for r in out], [r < 0.9 for r in out], [r > 1.1 for r in rest]


if __name__ == "__main__":
    typer.run(main)
