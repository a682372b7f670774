"""Layers here beside ONNX Runtime on the same chains; and a network in float32 and int8, exported.

    pip install -e '.[onnxruntime]'
    python tests/benchmarks/deployment.py layers [--threads 1] [--seconds 2]
    python tests/benchmarks/deployment.py inside [--threads 1] [--batch 1]
    python tests/benchmarks/deployment.py four --batch 1 [--network hed] [--budget 0.25] [--bits 8]

`layers`: C×C×3×3 at a quarter of the parameters, ranks in multiples of 16. Ours run here in eval
with channels last, ONNX Runtime has the chain of `to_onnx`; each side is a process of its own, and
they run in turn, so that no two pools of threads fight. On one thread the time is that of the
thread itself, which other processes do not count in; else that of the clock. A speed is over the
fastest dense convolution of both sides; the last column is ours over ONNX Runtime's.

`inside`: such layers in PyTorch, run by `implementation="onnxruntime"`: milliseconds with the
channels apart, and how many times as fast that is as `factorized` with them apart, and together.

`four`: a network of `compression.py` (which says what to install), dense and compressed, in float32
and in int8, each exported, all in turn in one process: milliseconds, bytes, and the score of the
files. What is compressed is kept in `--out`, and used again.
"""

from __future__ import annotations

import copy
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from math import exp, inf, log
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from networks import NETWORKS, Network
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tenfold import FactorizedConv, Multiple, compress, export, load, runtimes, save
from tenfold.tuning import in_turn

LAYERS = ((64, 56), (128, 28), (256, 14), (512, 7))  # channels, height and width
PAIRS = {
    "Tucker": ("tucker", "factorized"),
    "CP mobilenet": ("cp", "mobilenet"),
    "spatial SVD": ("spatial_svd", "factorized"),
    "channel SVD": ("channel_svd", "factorized"),
}
FORMATS = ("tucker", "cp", "spatial_svd", "channel_svd")
SIDES = ("ours", "onnxruntime")
Threads = Annotated[int, typer.Option("--threads")]
app = typer.Typer()


def factorized(channels: int, factorization: str, implementation: str) -> nn.Module:
    """A layer of C×C×3×3 at a quarter of the parameters, the same at every call."""
    layer = FactorizedConv(
        channels,
        channels,
        (3, 3),
        padding=1,
        rank=Multiple(16, of=0.25),
        factorization=factorization,
        implementation=implementation,
        generator=torch.Generator().manual_seed(0),
    )
    return layer.eval()


def made(side: str, channels: int, size: int, batch: int) -> dict[str, Callable[[], object]]:
    """What one side runs: the dense convolution, and a layer of each pair."""
    modules: dict[str, nn.Module] = {"dense": nn.Conv2d(channels, channels, 3, padding=1)}
    modules |= {name: factorized(channels, *pair) for name, pair in PAIRS.items()}
    x = torch.randn(batch, channels, size, size)
    if side == "onnxruntime":
        runtime = runtimes[side]()
        return {
            name: partial(runtime.prepare(one.eval(), (x,)), x) for name, one in modules.items()
        }
    last = x.contiguous(memory_format=torch.channels_last)
    work = {name: partial(one.eval(), last) for name, one in modules.items()}
    return {**work, "dense, contiguous": partial(modules["dense"], x)}


@torch.no_grad()
def serve(pipe: Connection, side: str, threads: int) -> None:
    """One side: make what is asked for, and time a few calls when asked to."""
    torch.set_num_threads(threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    work: dict[str, Callable[[], object]] = {}
    while (asked := pipe.recv()) is not None:
        if isinstance(asked, tuple):
            work = made(side, *asked)
            pipe.send(list(work))
            continue
        work[asked]()  # the caches as it leaves them itself
        started = clock()
        for _ in range(3):
            work[asked]()
        pipe.send(1000 * (clock() - started) / 3)


def measured(
    pipes: dict[str, Connection], layer: tuple[int, int, int], seconds: float
) -> dict[tuple[str, str], float]:
    """The lower quartile of the milliseconds of each side's each module, in turn."""
    times: dict[tuple[str, str], list[float]] = {}
    for side, pipe in pipes.items():
        pipe.send(layer)
        times |= {(side, name): [] for name in pipe.recv()}
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(next(iter(times.values()))) < 7:
        for (side, name), found in times.items():
            pipes[side].send(name)
            found.append(pipes[side].recv())
    return {key: quantiles(found, n=4)[0] for key, found in times.items()}


@app.command()
def layers(threads: Threads = 1, seconds: float = 2.0, batch: list[int] | None = None) -> None:
    """Ours beside ONNX Runtime, layer by layer."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = {}, []
    for side in SIDES:
        pipes[side], there = context.Pipe()
        workers.append(context.Process(target=serve, args=(there, side, threads), daemon=True))
        workers[-1].start()
    title = f"speed over the best dense convolution, ours / ONNX Runtime, threads: {threads}"
    shown = Table("layer, batch", "dense ms", *PAIRS, "ours over theirs", title=title)
    every: list[float] = []
    for several in batch or (1, 8):
        for channels, size in LAYERS:
            found = measured(pipes, (channels, size, several), seconds)
            dense = {side: found[side, "dense"] for side in SIDES}
            dense["ours"] = min(dense["ours"], found["ours", "dense, contiguous"])
            best = min(dense.values())
            speeds = {n: [best / found[side, n] for side in SIDES] for n in PAIRS}
            ratios = [ours / theirs for ours, theirs in speeds.values()]
            every += ratios
            shown.add_row(
                f"{channels}, {size}², {several}",
                " / ".join(f"{one:.2f}" for one in dense.values()),
                *(f"{ours:.1f} / {theirs:.1f}" for ours, theirs in speeds.values()),
                f"{exp(sum(map(log, ratios)) / len(ratios)):.2f}, worst {min(ratios):.2f}",
            )
    for pipe in pipes.values():
        pipe.send(None)
    Console(width=120).print(shown)
    mean = exp(sum(map(log, every)) / len(every))
    print(f"ours over ONNX Runtime's speed: {mean:.2f} (geometric mean), worst {min(every):.2f}")


@app.command()
@torch.no_grad()
def inside(threads: Threads = 1, seconds: float = 1.0, batch: int = 1) -> None:
    """A layer that ONNX Runtime runs inside PyTorch, beside the same run by PyTorch."""
    torch.set_num_threads(threads)
    shown = Table("layer, batch", *FORMATS, title="apart: ms, speed by onnxruntime; last: speed")
    every: list[tuple[float, float]] = []
    for channels, size in LAYERS:
        cells = []
        for format_ in FORMATS:
            ways = [factorized(channels, format_, way) for way in ("factorized", "onnxruntime")]
            x = torch.randn(batch, channels, size, size)
            last = x.contiguous(memory_format=torch.channels_last)
            runs = [partial(ways[0], x), partial(ways[1], x), partial(ways[0], last)]
            by = "process" if threads > 1 else "thread"
            apart, there, together = (
                one.milliseconds
                for one in in_turn(runs, x.device, seconds=seconds, hopeless=inf, by=by)
            )
            every.append((apart / there, together / there))
            cells.append(f"{there:.3f}: {apart / there:.2f}, {together / there:.2f}")
        shown.add_row(f"{channels}, {size}², {batch}", *cells)
    Console(width=120).print(shown)
    for name, ratios in zip(("apart", "last"), zip(*every, strict=True), strict=True):
        mean = exp(sum(map(log, ratios)) / len(ratios))
        print(f"over PyTorch's, channels {name}: {mean:.2f}, from {min(ratios):.2f}")


class Opened(nn.Module):
    """A file in ONNX Runtime, as the network that is scored."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.run = runtimes["onnxruntime"]().open(path)

    def forward(self, *given: Tensor) -> Tensor:
        return self.run(*given)[0]


@app.command()
def four(
    network: str = "demo",
    threads: Threads = 1,
    budget: float = 0.25,
    batch: int | None = None,
    bits: Annotated[int | None, typer.Option(help="8: ranks chosen for eight bits.")] = None,
    metric: str = "macs",
    out: Annotated[Path, typer.Option(help="Where compressed networks go.")] = Path("compressed"),
) -> None:
    """A network of the benchmarks: dense and factorized, float32 and int8."""
    torch.set_num_threads(threads)
    loaded = NETWORKS[network]()
    example = tuple(x[:batch] for x in loaded.example_inputs)
    given: dict[str, Any] = {"example_inputs": example, "calibration": loaded.calibration}
    small = compressed(loaded, {"budget": budget, "bits": bits, "metric": metric}, given, out)
    rows, runs = {}, []
    with TemporaryDirectory() as folder:
        for name, model in (("dense", loaded.model), ("factorized", small)):
            for int8 in (False, True):
                title = f"{name} {'int8' if int8 else 'float32'}"
                path = Path(folder, f"{title}.onnx")
                started = time.perf_counter()
                try:
                    export(model, path, int8=int8, **given)
                except ValueError as refusal:
                    print(f"{title}: {refusal}")
                    continue
                took = time.perf_counter() - started
                one = Opened(path)
                rows[title] = (path.stat().st_size, loaded.score(one), took)
                runs.append(partial(one, *example))
        found = in_turn(runs, torch.device("cpu"), seconds=3.0, hopeless=inf, by="process")
    shown = Table("network", "ms", "speed", "kB", "score", "export took s", title=loaded.score_name)
    for (title, (size, score, took)), one in zip(rows.items(), found, strict=True):
        speed = found[0].milliseconds / one.milliseconds
        cells = (f"{one.milliseconds:.3f}", f"{speed:.2f}×", f"{size / 1e3:.0f}", f"{score:.4f}")
        shown.add_row(title, *cells, f"{took:.1f}")
    Console(width=100).print(shown)


def compressed(
    loaded: Network, asked: dict[str, Any], given: dict[str, Any], out: Path
) -> nn.Module:
    """The network at a budget, chosen where it will run; made once."""
    words = [f"{value}" for value in asked.values() if value not in (None, "macs")]
    place = out / "-".join([loaded.name, *words, "onnxruntime"])
    if not place.exists():
        made = compress(loaded.model, runtime="onnxruntime", progress=False, **asked, **given)
        save(made, place)
    return load(place, copy.deepcopy(loaded.model)).eval()


if __name__ == "__main__":
    app()
