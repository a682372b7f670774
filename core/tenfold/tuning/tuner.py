"""Decide how a layer runs: measure its candidates on an input, or recall what was measured."""

from __future__ import annotations

import platform
import threading
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..convolve import LAID_OUT, in_format, is_channels_last
from ..eval_cache import is_transformed
from ..implementation import Fixed
from ..partition import Partition
from ..rerun import rerun
from ..stage import MemoryFormat
from .cache import recall, remember
from .decision import Decision, Measured, Situation
from .timing import Run, in_turn, simplest_of_the_fastest

if TYPE_CHECKING:
    from ..conv import FactorizedConv

Way = tuple[Partition, MemoryFormat | None]

_measuring = threading.Lock()  # two measurements at once would disturb each other


def may_measure(x: Tensor) -> bool:
    """Whether `x` is real data that runs at once: no gradients, tracing, transforms or modes."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or is_transformed(x):
        return False
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return False
    return not x.is_meta and x.numel() > 0


def decide(
    layer: FactorizedConv, x: Tensor, again: bool = False, wait: bool = True
) -> Decision | None:
    """Recall or measure the fastest way of running `layer` on `x`, `(batch, in_channels, *size)`.

    `again` measures what is known too. None where another thread is measuring and `wait` is False.
    """
    situation = describe(layer, x)
    known = None if again else recall(situation)
    if known is not None:
        return known
    if not _measuring.acquire(blocking=wait):
        return None
    try:
        decision = _measure(layer, x, situation)
    finally:
        _measuring.release()
    remember(situation, decision)
    return decision


@torch.no_grad()
def _measure(layer: FactorizedConv, x: Tensor, situation: Situation) -> Decision:
    ways = _ways(layer, situation.channels_last)
    timings = in_turn(_runs(layer, x, ways, situation.channels_last), x.device)
    measured = [
        Measured(partition=way[0], memory_format=way[1], milliseconds=round(one.milliseconds, 5))
        for way, one in zip(ways, timings, strict=True)
    ]
    partition, memory_format = ways[simplest_of_the_fastest(timings)]
    return Decision(
        partition=partition,
        memory_format=memory_format,
        measured=tuple(measured),
        situation=situation,
    )


def _ways(layer: FactorizedConv, channels_last: bool) -> list[Way]:
    """Each candidate in the input's memory format and in the other, the simplest first."""
    formats: list[MemoryFormat | None] = [None]
    if layer.order in LAID_OUT:
        formats.append("contiguous" if channels_last else "channels_last")
    ways = [(partition, one) for one in formats for partition in layer.candidates]
    return sorted(ways, key=lambda way: len(way[0]))


def _runs(layer: FactorizedConv, x: Tensor, ways: Sequence[Way], together: bool) -> list[Run]:
    """What to time: each partition's weights are computed once, for both memory formats."""
    trials = {partition: rerun(layer, Fixed(partition)) for partition, _ in ways}
    for trial in trials.values():
        trial.channels_last = False
    x = in_format(x, together) if layer.order in LAID_OUT else x

    def converted(trial: FactorizedConv) -> Tensor:
        return in_format(trial(in_format(x, not together)), together)

    return [
        partial(trials[partition], x) if other is None else partial(converted, trials[partition])
        for partition, other in ways
    ]


def describe(layer: FactorizedConv, x: Tensor) -> Situation:
    """The situation of `layer` that sees `x`."""
    config, network = layer.config, layer.weight.network
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
        channels_last=layer.channels_last or is_channels_last(x),
        factors=network.factors,
        sizes=dict(network.sizes),
        geometry=asdict(config.geometry),
        padding="zeros" if config.sides is None else f"{config.padding_mode} {config.sides}",
        candidates=layer.candidates,
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
