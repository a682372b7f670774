"""Layers beside the peer's, beside plain chains and beside dense: milliseconds, in turn.

    pip install -e '.[benchmark]'
    python tests/benchmarks/layers.py [--threads 1] [--training] [--device cuda --dtype float16]

Layers C×C×3×3 at a quarter of the parameters, ranks plain and in multiples of 16, batch 1 and 8,
channels last. Each of our pairs runs in turn with TensorLy-Torch's layer of the same format and
implementation, with the `nn.Sequential` of the same convolutions and with dense in its better
layout, in one process; a ratio is of the lower quartiles of the rounds, which a busy machine
disturbs least. The rate is that of our multiply-accumulates, in dense's: 1 is the limit of the
arithmetic, and what the peer's time is over it is the most that any of its layers could be beaten
by. `--contiguous` leaves the channels apart; `--compiled` adds the chain compiled by inductor with
its weights frozen; `--training` times forward and backward, and finds the most memory held at once.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from math import exp, log
from pathlib import Path
from statistics import quantiles
from typing import Annotated, Any

import tltorch
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tenfold import FactorizedConv, Multiple, factorizations, implementations

LAYERS = ((64, 56), (128, 28), (256, 14), (512, 7))  # channels, height and width
BATCHES = (1, 8)
RANKS: dict[str, Any] = {"0.25": 0.25, "16s": Multiple(16, of=0.25)}
PEERS = {"cp", "tucker", "tt"}  # the formats the peer has
Row = dict[str, Any]


def pairs(wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every installed pair that runs as convolutions, or those whose format is wanted.

    Reconstructed counts once, being the same for all; `auto` has a benchmark of its own.
    """
    for factorization in factorizations.names():
        if wanted and factorization not in wanted:
            continue
        for implementation in implementations.names():
            if implementation == "auto":
                continue
            if implementation == "reconstructed" and factorization != "tucker":
                continue
            try:
                FactorizedConv(
                    16, 16, (3, 3), factorization=factorization, implementation=implementation
                ).to_sequential()
            except ValueError:
                continue
            yield factorization, implementation


def peer_of(layer: FactorizedConv, padding: int) -> nn.Module | None:
    """The peer's layer with our parameters; None where it has no such pair."""
    if layer.factorization not in PEERS or (layer.factorization == "tt" and layer.order != 2):
        return None
    rank: Any = layer.rank
    if layer.factorization == "tucker":
        rank = (*rank, *layer.config.kernel_size)
    elif layer.factorization == "tt":
        rank = (1, *rank, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tltorch.FactorizedConv(
            layer.config.in_channels,
            layer.config.out_channels,
            kernel_size=3,
            order=2,
            padding=padding,
            rank=rank,
            factorization=layer.factorization,
            implementation=layer.implementation,
            bias=True,
        )


def in_turn(work: dict[str, Callable[[], Any]], seconds: float, device: str) -> dict[str, float]:
    """The lower quartile of the milliseconds of each, run one after the other.

    Each call is timed right after one of its own, so that none finds the caches as another left
    them.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for run in work.values():
        for _ in range(3):
            run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 5:
        for name, run in work.items():
            run()
            times[name].append(timed(run, device))
    return {name: quantiles(found, n=4)[0] for name, found in times.items()}


def timed(run: Callable[[], Any], device: str) -> float:
    """Milliseconds of one call; by CUDA's own events on a GPU."""
    if device.startswith("cuda"):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        stop.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(stop))
    started = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - started)


def peak_bytes(run: Callable[[], Any], device: str) -> int:
    """The most memory that is held at once in one call, beyond what is held before it."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(profile_memory=True) as profile:
        run()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes), default=0)


def measure(
    layer: FactorizedConv,
    size: int,
    batch: int,
    training: bool,
    compiled: bool,
    contiguous: bool,
    seconds: float,
    device: str,
) -> Row:
    """One layer with its rivals."""
    channels, dtype = layer.config.in_channels, layer.weight.dtype
    x = torch.randn(batch, channels, size, size, device=device, dtype=dtype)
    layout = torch.contiguous_format if contiguous else torch.channels_last
    last = x.to(memory_format=layout)
    conv = nn.Conv2d(channels, channels, 3, padding=1).to(device, dtype)
    rivals: dict[str, tuple[nn.Module, Tensor]] = {
        "ours": (layer.to(memory_format=layout), last),
        "plain": (layer.to_sequential().to(memory_format=layout), last),
        "dense": (conv, x),
        "dense, other": (nn.Conv2d(channels, channels, 3, padding=1), last),
    }
    rivals["dense, other"][0].to(device, dtype).to(memory_format=layout)  # type: ignore[call-overload]
    if compiled:
        chain = layer.to_sequential().to(memory_format=layout).eval()
        rivals["compiled"] = (torch.compile(chain, options={"freezing": True}), last)
    peer = peer_of(layer, 1)
    if peer is not None:
        rivals["peer"] = (peer.to(device, dtype), last)

    def forward(module: nn.Module, x: Tensor) -> Callable[[], Any]:
        if not training:
            return lambda: module(x)
        seen = x.clone().requires_grad_()
        return lambda: module(seen).sum().backward()

    for module, _ in rivals.values():
        module.train(training)
    work = {name: forward(*rival) for name, rival in rivals.items()}
    with torch.set_grad_enabled(training):
        row: Row = in_turn(work, seconds, device)
        if training:
            row |= {f"{name} MB": peak_bytes(run, device) / 1e6 for name, run in work.items()}
    row["dense"] = min(row["dense"], row.pop("dense, other"))
    row["limit"] = row["dense"] * layer.macs((size, size)) / (9 * channels**2 * size**2)
    return row


def geometric(values: Sequence[float]) -> float:
    """The geometric mean."""
    return exp(sum(map(log, values)) / len(values))


def summary(rows: Sequence[Row]) -> Iterator[tuple[str, str, Row]]:
    """For each pair and rank the geometric means of our speed-ups over the rivals, of our rate in
    dense's, and of the peer's time over the limit."""
    for pair, rank in dict.fromkeys((row["pair"], row["rank"]) for row in rows):
        mine = [row for row in rows if (row["pair"], row["rank"]) == (pair, rank)]
        ratios = {
            rival: geometric([row[rival] / row["ours"] for row in mine])
            for rival in ("peer", "plain", "compiled", "dense", "limit")
            if rival in mine[0]
        }
        if "ours MB" in mine[0]:
            ratios["memory"] = geometric([row["ours MB"] / row["dense MB"] for row in mine])
        if "peer" in ratios:
            ratios["most"] = geometric([row["peer"] / row["limit"] for row in mine])
        yield pair, rank, ratios


def main(
    threads: Annotated[int, typer.Option(help="For every rival.")] = 1,
    training: Annotated[bool, typer.Option("--training", help="Forward and backward.")] = False,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="The chain by inductor too.")
    ] = False,
    contiguous: Annotated[
        bool, typer.Option("--contiguous", help="Inputs with the channels apart, dense's too.")
    ] = False,
    factorization: Annotated[list[str] | None, typer.Option(help="Only these formats.")] = None,
    rank: Annotated[list[str] | None, typer.Option(help="0.25, 16s or both.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Images.")] = None,
    seconds: Annotated[float, typer.Option(help="For each row.")] = 0.5,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    out: Annotated[Path | None, typer.Option("--json", help="Write every row.")] = None,
) -> None:
    torch.set_num_threads(threads)
    rows: list[Row] = []
    console, note = Console(), Console(stderr=True)
    for channels, size in LAYERS:
        for pair in pairs(factorization or ()):
            for name in rank or RANKS:
                torch.manual_seed(0)
                layer = FactorizedConv(
                    channels,
                    channels,
                    (3, 3),
                    padding=1,
                    rank=RANKS[name],
                    factorization=pair[0],
                    implementation=pair[1],
                    device=device,
                    dtype=getattr(torch, dtype),
                )
                for images in batch or BATCHES:
                    row = {"pair": " ".join(pair), "rank": name, "layer": f"{channels}, {size}²"}
                    row |= {"batch": images, "ranks": str(layer.rank)}
                    row |= measure(
                        layer, size, images, training, compiled, contiguous, seconds, device
                    )
                    rows.append(row)
                    note.log(
                        *(f"{k} {v:.3f}" if isinstance(v, float) else v for k, v in row.items())
                    )
    where = torch.cuda.get_device_name() if device.startswith("cuda") else f"{threads} threads"
    what = "forward + backward" if training else "eval"
    table = Table(title=f"{what}, {dtype}, {where}, torch {torch.__version__}: × faster than")
    found = list(summary(rows))
    columns = [name for name in COLUMNS if any(name in ratios for *_, ratios in found)]
    for title in ("pair", "rank", *(COLUMNS[name] for name in columns)):
        table.add_column(title)
    for pair_name, rank_name, ratios in found:
        shown = [f"{ratios[name]:.2f}" if name in ratios else "–" for name in columns]
        table.add_row(pair_name, rank_name, *shown)
    console.print(table)
    if out is not None:
        out.write_text(json.dumps(rows, indent=1))


COLUMNS = {
    "peer": "the peer",
    "plain": "plain chain",
    "compiled": "it compiled",
    "dense": "dense",
    "limit": "rate",
    "most": "peer at most",
    "memory": "memory of dense's",
}


if __name__ == "__main__":
    typer.run(main)
