"""Decide how a layer runs: measure its candidates on an input, or recall what was measured."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..network import Geometry, KernelNetwork
from ..plugin import Fixed, MemoryFormat, Way
from ..run import LAID_OUT, in_format, is_channels_last, is_transformed
from .cache import recall, remember
from .decision import Decision, Measured, Situation
from .elsewhere import EAGER, alone, engine, worker
from .timing import Run, Timing, in_turn, other_work, simplest_of_the_fastest

OWN = 99  # how complicated an implementation's own code is taken to be, in stages
LITTLE = 0.15  # a gain over dense below which it must be one without other layers too

_measuring = threading.Lock()  # two measurements at once would disturb each other


@dataclass(frozen=True)
class Subject:
    """What is decided: which of a network's partitions runs a convolution of `geometry` fastest, or
    which implementation's own code.

    `padding` names what is padded before it; `channels_last` asks that of the output whatever the
    input. `trial` gives the same convolution run so, with an output in its input's memory format.
    """

    network: KernelNetwork
    geometry: Geometry
    padding: str
    candidates: tuple[Way, ...]
    channels_last: bool
    trial: Callable[[Fixed | str], nn.Module]


def may_measure(x: Tensor) -> bool:
    """Whether `x` is real data that runs at once: no gradients, tracing, transforms or modes."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or is_transformed(x):
        return False
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return False
    return not x.is_meta and x.numel() > 0


def decide(
    subject: Subject, x: Tensor, again: bool = False, wait: bool = True, runtime: str = EAGER
) -> Decision | None:
    """Recall or measure the fastest way of running it on `x`, `(batch, in_channels, *size)`.

    `again` measures what is known too. In a `runtime` other than eager PyTorch partitions alone are
    measured: it lays out and packs by itself. None where another thread is measuring and `wait` is
    False.
    """
    situation = describe(subject, x, runtime)
    known = None if again else recall(situation)
    if known is not None:
        return known
    if not _measuring.acquire(blocking=wait):
        return None
    try:
        decision = _measure(subject, x, situation)
    finally:
        _measuring.release()
    remember(situation, decision)
    return decision


@torch.no_grad()
def _measure(subject: Subject, x: Tensor, situation: Situation) -> Decision:
    elsewhere = situation.runtime != EAGER
    if elsewhere:
        parted = (one for one in subject.candidates if not isinstance(one, str))
        ways: list[Fixed | str] = [Fixed(partition) for partition in parted]
        runs = [alone(situation.runtime, subject.trial(way), x) for way in ways]
    else:
        ways = _ways(subject, situation)
        runs = _runs(subject, x, ways, situation.channels_last)
    by = worker(situation.runtime)
    between = None if elsewhere else other_work(x.device)
    timings = in_turn(runs, x.device, by=by, between=between)
    best = _choose(ways, runs, timings, lambda pair: in_turn(pair, x.device, by=by))
    measured = [
        Measured(**_fields(way), milliseconds=round(one.milliseconds, 5))
        for way, one in zip(ways, timings, strict=True)
    ]
    return Decision(**_fields(ways[best]), measured=tuple(measured), situation=situation)


def _choose(
    ways: Sequence[Fixed | str],
    runs: Sequence[Run],
    timings: Sequence[Timing],
    time: Callable[[Sequence[Run]], list[Timing]],
) -> int:
    """The fastest between other layers; unless dense is as fast by the two alone, again and again.

    That is, as fast as what gains little, or faster than what gains more.
    """
    levels = [OWN if isinstance(way, str) else len(way.partition) for way in ways]
    best = simplest_of_the_fastest(timings, levels)
    whole = [index for index, level in enumerate(levels) if level == 1]
    if not whole or levels[best] == 1:
        return best
    dense = min(whole, key=lambda index: timings[index].milliseconds)
    gain = 1 - timings[best].milliseconds / timings[dense].milliseconds
    both = time([runs[dense], runs[best]])
    if gain > LITTLE:
        return dense if both[0].milliseconds < both[1].milliseconds else best
    return (dense, best)[simplest_of_the_fastest(both, [1, levels[best]])]


def _ways(subject: Subject, situation: Situation) -> list[Fixed | str]:
    """Each partition in the input's memory format and in the other; other code as it is.

    Dense also as PyTorch alone runs it, where the weights would be packed.
    """
    formats: list[MemoryFormat | None] = [None]
    if subject.network.order in LAID_OUT:
        formats.append("contiguous" if situation.channels_last else "channels_last")
    parted = [one for one in subject.candidates if not isinstance(one, str)]
    ways = [Fixed(partition, one) for one in formats for partition in parted]
    if subject.network.order in LAID_OUT and situation.onednn and situation.dtype == "float32":
        dense = [way for way in ways if len(way.partition) == 1]
        ways += [replace(way, packed=False) for way in dense]
    return [*ways, *(one for one in subject.candidates if isinstance(one, str))]


def _runs(subject: Subject, x: Tensor, ways: Sequence[Fixed | str], together: bool) -> list[Run]:
    """What to time: each partition's weights are computed once, for both memory formats."""
    own = [way for way in ways if isinstance(way, str) or way.memory_format is None]
    trials = {way: subject.trial(way) for way in own}
    x = in_format(x, together) if subject.network.order in LAID_OUT else x

    def converted(trial: Callable[[Tensor], Tensor]) -> Tensor:
        return in_format(trial(in_format(x, not together)), together)

    return [
        partial(trials[way], x)
        if isinstance(way, str) or way in trials
        else partial(converted, trials[replace(way, memory_format=None)])
        for way in ways
    ]


def _fields(way: Fixed | str) -> dict[str, Any]:
    if isinstance(way, str):
        return {"partition": (), "implementation": way, "memory_format": None, "packed": True}
    return {"partition": way.partition, "memory_format": way.memory_format, "packed": way.packed}


def describe(subject: Subject, x: Tensor, runtime: str = EAGER) -> Situation:
    """The situation of a convolution that sees `x`."""
    network = subject.network
    dtype = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    return Situation(
        tenfold=version("tenfold"),
        torch=torch.__version__,
        device=device_name(x.device),
        threads=torch.get_num_threads(),
        onednn=torch.backends.mkldnn.enabled,
        dtype=str(dtype).removeprefix("torch."),
        input_shape=tuple(x.shape),
        channels_last=subject.channels_last or is_channels_last(x),
        factors=network.factors,
        sizes=dict(network.sizes),
        geometry=asdict(subject.geometry),
        padding=subject.padding,
        candidates=subject.candidates,
        runtime=runtime,
        engine=engine(runtime),
    )


@lru_cache
def device_name(device: torch.device) -> str:
    """The name of the processor behind a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    information = Path("/proc/cpuinfo")
    names = [platform.processor() or platform.machine()]
    if information.is_file():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        names = named or names
    return f"{names[0]}, {torch.backends.cpu.get_cpu_capability()}"
