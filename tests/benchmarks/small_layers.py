"""What layers add between calls: networks of many small ones beside their plain forms and dense.

    python tests/benchmarks/small_layers.py [--threads 1] [--seconds 1]

Milliseconds of a whole network of twelve layers of 24 channels on one image of 16², in eval, the
three run in turn in one process; medians. Where gradients are enabled, the parameters need them, as
they do by default.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from tenfold import FactorizedConv, to_plain

LAYERS, WIDTH, SIZE = 12, 24, 16
FORMATS = (("tucker", 8), ("spatial_svd", 12), ("cp", 16))


def networks(factorization: str, rank: int) -> dict[str, nn.Module]:
    """The factorized network, its plain form and the dense one."""
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        options: Any = {"order": 2, "padding": 1, "rank": rank, "factorization": factorization}
        layers += [FactorizedConv(WIDTH, WIDTH, 3, **options), nn.ReLU(inplace=True)]
    ours = nn.Sequential(*layers).eval()
    dense = copy.deepcopy(ours)
    for index, layer in enumerate(ours):
        if isinstance(layer, FactorizedConv):
            dense[index] = layer.to_conv()
    return {"ours": ours, "plain": to_plain(ours), "dense": dense}


def medians(runs: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Milliseconds of each, one after the other for so long."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in (*runs.values(), *runs.values()):
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: median(found) for name, found in times.items()}


def main(
    threads: Annotated[int, typer.Option()] = 1, seconds: Annotated[float, typer.Option()] = 1.0
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    table = Table(title=f"{threads} threads, torch {torch.__version__}")
    for title in ("format", "channels", "gradients", "ours ms", "plain ms", "dense ms", "× plain"):
        table.add_column(title, justify="right")
    for factorization, rank in FORMATS:
        made = networks(factorization, rank)
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(1, WIDTH, SIZE, SIZE).to(memory_format=layout)
            for needed in (False, True):
                with torch.set_grad_enabled(needed):
                    runs = {name: lambda net=net, x=x: net(x) for name, net in made.items()}
                    found = medians(runs, seconds)
                apart = "together" if layout is torch.channels_last else "apart"
                words = [f"{one:.2f}" for one in found.values()]
                ratio = f"{found['ours'] / found['plain']:.2f}"
                table.add_row(factorization, apart, "on" if needed else "off", *words, ratio)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
