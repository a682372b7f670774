"""Milliseconds of two networks, run in turn, and of their layers in their places."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import nn

from ...tuning import clock
from ..candidates import Speed
from ..running import (
    Batch,
    Difference,
    as_users_run,
    call,
    copied,
    counted,
    evaluating,
    hooked,
    outputs,
)
from ..survey import SAME, Layer, format_of, maps_last

SECONDS = 0.5  # after which no more rounds begin
ROUNDS = 3, 32  # at least, at most
CALM = 1.1  # times its least, at most, is a time's median where nothing else disturbs it
LONGER = 4  # times as long, and as many rounds, where something does
WARMING = 4  # one of so many rounds does not count: the first of them
LAST = 1.03  # times as fast, at least, is what channels are laid out last for
TRIED = 2, 6  # rounds at least, at most, to choose a memory format,
TRIED_SECONDS = 0.6  # and after which none begins
Times = dict[str, list[float]]
Side = tuple[nn.Module, Batch]  # a network and its input, as they are run


def time_in_place(
    original: Side, compressed: nn.Module, layers: Sequence[Layer], example: Batch
) -> Speed:
    """Run both in turn, the compressed one in its better memory format as the original is.

    Their times are the least of some rounds: what others do on the machine only adds to them; on
    one thread the processor's time counts, and theirs does not. The time is bounded: of a network
    that takes long there are few rounds, more where the machine is busy. Of many the first do not
    count, in which weights are prepared and caches are cold.
    """
    names = [layer.name for layer in layers]
    sides = [original, better(compressed, layers, example)]
    with counted(), as_users_run(), evaluating(nn.ModuleList([model for model, _ in sides])):
        found: list[Times] = [{}, {}]
        begun = time.perf_counter()
        for turn in range(LONGER * ROUNDS[1]):
            if _enough(turn, time.perf_counter() - begun, found):
                break
            for which in (turn % 2, 1 - turn % 2):
                for name, seconds in _run(*sides[which], names).items():
                    found[which].setdefault(name, []).append(1000 * seconds)
    before, after = ({name: _counting(times) for name, times in one.items()} for one in found)
    return Speed(
        before=min(before.pop("")),
        after=min(after.pop("")),
        layers={
            name: (_least_and_usual(before[name]), _least_and_usual(after[name]))
            for name in names
            if name in before and name in after
        },
        last=sides[1][0] is not compressed,
    )


def _enough(rounds: int, seconds: float, found: Sequence[Times]) -> bool:
    """Whether there are enough rounds, after so many seconds."""
    if rounds < ROUNDS[0] or (rounds < ROUNDS[1] and seconds < SECONDS):
        return False
    return seconds > LONGER * SECONDS or all(_calm(_counting(one[""])) for one in found)


def _counting(times: Sequence[float]) -> Sequence[float]:
    return times[len(times) // WARMING :]


def _calm(times: Sequence[float]) -> bool:
    return median(times) <= CALM * min(times)


def lay_last(model: nn.Module, example: Batch, format_: torch.memory_format) -> bool:
    """Give a network its channels last, where it gives the same so, laid out as before.

    It runs so on images as they come, too: what is next to its layers follows their weights. What
    it returns is whether that was done.
    """
    if not _alike(model, _packed(model, format_), example):
        return False
    made: Any = model
    made.to(memory_format=format_)
    return True


def _packed(model: nn.Module, format_: torch.memory_format) -> nn.Module:
    packed: Any = copied(model)
    packed.to(memory_format=format_)
    return packed  # type: ignore[no-any-return]


def _alike(model: nn.Module, packed: nn.Module, example: Batch) -> bool:
    """Whether a network with its channels last gives the same, laid out as before."""
    with counted():
        try:
            (wanted,), (given,) = (outputs(one, [example]) for one in (model, packed))
        except (RuntimeError, ValueError):  # it takes views that this format does not have
            return False
    found = Difference()
    found.add(wanted, given)
    laid = [[y.is_contiguous() for y in one] for one in (wanted, given)]
    return found.relative <= SAME and laid[0] == laid[1]


def _least_and_usual(times: Sequence[float]) -> tuple[float, float]:
    return min(times), median(times)


def better(model: nn.Module, layers: Sequence[Layer], example: Batch) -> Side:
    """The network and the batch as they are, or with channels last, whichever runs faster.

    But for a network whose outputs would be laid out otherwise so: it is left as it is, too.
    """
    format_ = format_of(layer.config.order for layer in layers)
    if format_ is None:
        return model, example
    packed = _packed(model, format_)
    try:
        with counted(), as_users_run(), evaluating(nn.ModuleList([model, packed])):
            times = _leasts([(model, example), (packed, maps_last(example))])
    except (RuntimeError, ValueError):  # it takes views that this format does not have
        return model, example
    if times[0] <= LAST * times[1] or not _alike(model, packed, example):
        return model, example
    return packed, maps_last(example)


def _leasts(sides: Sequence[Side]) -> list[float]:
    """Of some runs in turn; what the first has to make first does not count."""
    times: list[list[float]] = [[] for _ in sides]
    while len(times[0]) < TRIED[1] and (
        len(times[0]) < TRIED[0] or sum(map(sum, times)) < TRIED_SECONDS
    ):
        for side, found in zip(sides, times, strict=True):
            found.append(_run(*side, ())[""])
    return [min(found) for found in times]


def _run(model: nn.Module, batch: Batch, names: Sequence[str]) -> dict[str, float]:
    """Seconds of one run, under "", and of all calls of some layers in it."""
    found: dict[str, float] = {}
    begun: dict[str, float] = {}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    ticking = clock(device)

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return ticking()

    def before(name: str) -> Callable[..., None]:
        def begin(*_: Any) -> None:
            begun[name] = now()

        return begin

    def after(name: str) -> Callable[..., None]:
        def end(*_: Any) -> None:
            found[name] = found.get(name, 0.0) + now() - begun[name]

        return end

    handles = []
    for name in names:
        module = model.get_submodule(name)
        handles.append(module.register_forward_pre_hook(before(name)))
        handles.append(module.register_forward_hook(after(name), prepend=True))
    with hooked(handles):
        started = now()
        call(model, batch)
        found[""] = now() - started
    return found
