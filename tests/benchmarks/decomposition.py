"""Decompose kernels beside TensorLy-Torch: seconds, error and parameters of both.

    pip install -e '.[benchmark]'
    python tests/benchmarks/decomposition.py [--large] [--threads 2]

Default-initialised kernels and those of the demo's trained network, at a quarter of the dense
parameters. Both sides run in turn in one process; the ratio is of their seconds. `--large` adds
(512, 512, 3, 3), which takes the peer several minutes.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated

import tltorch
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import tenfold
from tenfold.demo.data import load_cnn

RANK = 0.25


def kernels(large: bool) -> Iterator[tuple[str, nn.Conv2d]]:
    """The convolutions, named."""
    torch.manual_seed(0)
    for channels in (64, 128, 256, 512) if large else (64, 128, 256):
        yield f"fresh ({channels}, {channels}, 3, 3)", nn.Conv2d(channels, channels, 3, bias=False)
    model = load_cnn()
    for name in ("conv1", "conv2", "conv3", "conv4"):
        conv = model.get_submodule(name)
        yield f"trained {tuple(conv.weight.shape)}", conv


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    started = time.perf_counter()
    kernel = work()
    return kernel.detach(), time.perf_counter() - started


def peer_kernel(layer: nn.Module, factorization: str) -> Tensor:
    """The peer's kernel as `(out, in, *k)`; its TT holds `(in, *k, out)`."""
    kernel = layer.weight.to_tensor()
    return kernel.movedim(-1, 0) if factorization == "tt" else kernel


def main(
    large: Annotated[bool, typer.Option("--large", help="Add (512, 512, 3, 3).")] = False,
    threads: Annotated[int, typer.Option(help="For both sides.")] = 2,
) -> None:
    torch.set_num_threads(threads)
    table = Table(title=f"rank={RANK}, {threads} threads, torch {torch.__version__}")
    for title in ("kernel", "format", "error", "peer's", "params", "peer's", "s", "peer's", "×"):
        table.add_column(title, justify="left" if title in ("kernel", "format") else "right")
    console = Console()
    for name, conv in kernels(large):
        dense = conv.weight.detach()
        for factorization in ("cp", "tucker", "tt"):
            request = {"rank": RANK, "factorization": factorization}
            console.log(name, factorization)
            layer: list[nn.Module] = []

            def ours(conv: nn.Conv2d = conv, request: dict = request, keep: list = layer) -> Tensor:
                keep[:] = [tenfold.FactorizedConv.from_conv(conv, **request)]
                return keep[0].weight.to_tensor()

            mine, seconds = timed(ours)
            parameters = layer[0].weight.numel()

            def theirs(
                conv: nn.Conv2d = conv, request: dict = request, keep: list = layer
            ) -> Tensor:
                keep[:] = [
                    tltorch.FactorizedConv.from_conv(conv, decompose_weights=True, **request)
                ]
                return peer_kernel(keep[0], request["factorization"])

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                peer, peer_seconds = timed(theirs)
            peer_parameters = sum(p.numel() for p in layer[0].weight.parameters())
            table.add_row(
                name,
                factorization,
                f"{tenfold.relative_error(dense, mine):.4f}",
                f"{tenfold.relative_error(dense, peer):.4f}",
                f"{parameters / dense.numel():.3f}",
                f"{peer_parameters / dense.numel():.3f}",
                f"{seconds:.2f}",
                f"{peer_seconds:.2f}",
                f"{peer_seconds / seconds:.1f}",
            )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
