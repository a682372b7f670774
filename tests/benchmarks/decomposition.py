"""Decompositions beside their peers: seconds, error and parameters of both sides.

    pip install -e '.[benchmark,benchmark-networks]'
    python tests/benchmarks/decomposition.py peer [--large]
    python tests/benchmarks/decomposition.py tensorly
    python tests/benchmarks/decomposition.py aware

`peer` is TensorLy-Torch's `from_conv` at a quarter of the dense parameters, `tensorly` TensorLy's
own functions at equal ranks, both on default-initialised and on trained kernels. `aware` compares
the output's error on held-out inputs with and without the inputs' moment, at a quarter of the MACs
of each layer. Both sides run in turn in one process; a ratio is of their seconds. `--large` is
(512, 512, 3, 3) alone, which takes the peer several minutes.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import tenfold
from tenfold.demo.data import load_cnn

sys.path.insert(0, str(Path(__file__).parent))
RANK = 0.25
SHORT, TURNS = 2.0, 7  # seconds up to which so many turns are taken
Threads = Annotated[int, typer.Option(help="For both sides.")]
console = Console(width=100)
app = typer.Typer(add_completion=False, help=__doc__)


def kernels(sizes: tuple[int, ...]) -> Iterator[tuple[str, nn.Conv2d]]:
    """Default-initialised convolutions of some widths, and those of the demo's network; named."""
    yield from fresh(sizes)
    model = load_cnn()
    for name in ("conv1", "conv2", "conv3", "conv4"):
        conv = model.get_submodule(name)
        yield f"trained {conv.in_channels} to {conv.out_channels}", conv


def fresh(sizes: tuple[int, ...]) -> Iterator[tuple[str, nn.Conv2d]]:
    """Default-initialised convolutions of some widths, named."""
    torch.manual_seed(0)
    for channels in sizes:
        yield f"fresh {channels}", nn.Conv2d(channels, channels, 3, bias=False)


def in_turn(*works: Callable[[], Any]) -> list[tuple[Any, float]]:
    """What each work returns, with warnings silenced, and the median of its seconds.

    Each is done once to warm up; where all take less than `SHORT`, `TURNS` times in turn.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = [timed(work) for work in works]
        if sum(seconds for _, seconds in first) > SHORT:
            return first
        turns = [[timed(work) for work in works] for _ in range(TURNS)]
    return [(runs[0][0], median(one for _, one in runs)) for runs in zip(*turns, strict=True)]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns, and its seconds."""
    started = time.perf_counter()
    made = work()
    return made, time.perf_counter() - started


def peer_kernel(layer: nn.Module, factorization: str) -> Tensor:
    """The peer's kernel as `(out, in, *k)`; its TT holds `(in, *k, out)`."""
    kernel = layer.weight.to_tensor().detach()
    return kernel.movedim(-1, 0) if factorization == "tt" else kernel


def table(title: str, *columns: str) -> Table:
    shown = Table(title=f"{title}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for place, column in enumerate(columns):
        shown.add_column(column, justify="left" if place < 2 else "right")
    return shown


@app.command()
def peer(
    large: Annotated[bool, typer.Option("--large", help="(512, 512, 3, 3) alone.")] = False,
    threads: Threads = 2,
) -> None:
    """TensorLy-Torch's `from_conv` at the same budget."""
    import tltorch

    torch.set_num_threads(threads)
    headers = ("kernel", "format", "error", "peer's", "params", "peer's", "s", "peer's", "×")
    shown = table(f"rank={RANK}", *headers)
    for name, conv in fresh((512,)) if large else kernels((64, 128, 256)):
        dense = conv.weight.detach()
        for factorization in ("cp", "tucker", "tt"):
            asked: dict[str, Any] = {"rank": RANK, "factorization": factorization}
            console.log(name, factorization)
            (mine, seconds), (theirs, peer_seconds) = in_turn(
                partial(tenfold.FactorizedConv.from_conv, conv, **asked),
                partial(tltorch.FactorizedConv.from_conv, conv, decompose_weights=True, **asked),
            )
            error = tenfold.relative_error(dense, mine.weight.to_tensor())
            peer_error = tenfold.relative_error(dense, peer_kernel(theirs, factorization))
            counted = sum(parameter.numel() for parameter in theirs.weight.parameters())
            shown.add_row(
                *(name, factorization, f"{error:.4f}", f"{peer_error:.4f}"),
                f"{mine.weight.numel() / dense.numel():.3f}",
                f"{counted / dense.numel():.3f}",
                *(f"{seconds:.3f}", f"{peer_seconds:.3f}", f"{peer_seconds / seconds:.1f}"),
            )
    console.print(shown)


def by_tensorly(kernel: Tensor, factorization: str, rank: Any) -> Tensor:
    """TensorLy's decomposition at ranks of ours, reconstructed as `(out, in, *k)`."""
    from tensorly import decomposition

    if factorization == "cp":
        return decomposition.parafac(kernel, rank).to_tensor()
    if factorization == "tucker":
        (core, factors), _ = decomposition.partial_tucker(kernel, rank, modes=[0, 1])
        return torch.einsum("ab...,oa,ib->oi...", core, *factors)
    return (
        decomposition.tensor_train(kernel.movedim(0, -1), [1, *rank, 1]).to_tensor().movedim(-1, 0)
    )


@app.command()
def tensorly(threads: Threads = 2) -> None:
    """TensorLy's `parafac`, `partial_tucker` and `tensor_train` at equal ranks."""
    import tensorly as tl

    torch.set_num_threads(threads)
    shown = table("equal ranks", "kernel", "format", "rank", "error", "TensorLy's", "s", "its", "×")
    for name, conv in kernels((64, 128)):
        dense = conv.weight.detach()
        for factorization in ("cp", "tucker", "tt"):
            console.log(name, factorization)
            found = tenfold.decompose(dense, rank=RANK, factorization=factorization)
            asked: dict[str, Any] = {"rank": found.rank, "factorization": factorization}
            with tl.backend_context("pytorch"):
                (mine, seconds), (theirs, other) = in_turn(
                    partial(tenfold.decompose, dense, **asked),
                    partial(by_tensorly, dense, factorization, found.rank),
                )
            error = tenfold.relative_error(dense, theirs)
            shown.add_row(
                *(name, factorization, str(found.rank), f"{mine.error:.4f}", f"{error:.4f}"),
                *(f"{seconds:.3f}", f"{other:.3f}", f"{other / seconds:.1f}"),
            )
    console.print(shown)


@app.command()
def aware(
    network: Annotated[list[str], typer.Option(help="Of the benchmark networks.")] = [  # noqa: B006
        "demo",
        "hed",
        "deeplc",
    ],
    factorization: Annotated[list[str], typer.Option(help="Formats.")] = [  # noqa: B006
        "spatial_svd",
        "tucker",
    ],
    threads: Threads = 2,
) -> None:
    """The output's error on held-out inputs, decomposed with and without the inputs' moment."""
    from networks import NETWORKS

    torch.set_num_threads(threads)
    shown = table("a quarter of the MACs", "network", "format", "layers", "plain", "aware", "×")
    for name in network:
        loaded = NETWORKS[name]()
        layers = layers_of(loaded.model)
        batches = loaded.calibration
        seen = tenfold.measure_moments(loaded.model, layers, batches[::2])
        held = tenfold.measure_moments(loaded.model, layers, batches[1::2])
        for format_ in factorization:
            errors: list[tuple[float, float]] = []
            for place in layers:
                console.log(name, format_, place)
                kernel = loaded.model.get_submodule(place).weight
                asked = {"rank": RANK, "factorization": format_}
                pair = [
                    tenfold.decompose(kernel, **asked, moment=moment).kernel.to_tensor()
                    for moment in (None, seen[place])
                ]
                errors.append(tuple(held[place].output_error(kernel, one) for one in pair))
            plain, weighed = (mean(some) for some in zip(*errors, strict=True))
            shown.add_row(
                *(name, format_, str(len(layers))),
                *(f"{plain:.4f}", f"{weighed:.4f}", f"{plain / weighed:.2f}"),
            )
    console.print(shown)


def layers_of(model: nn.Module) -> list[str]:
    """The names of the convolutions that are large enough."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d) and smallest(module) >= 16
    ]


def smallest(conv: nn.Module) -> int:
    """The fewer of a convolution's channels; 0 for a 1×1."""
    out, inner, *kernel = conv.weight.shape
    return min(out, inner) if max(kernel) > 1 else 0


if __name__ == "__main__":
    app()
