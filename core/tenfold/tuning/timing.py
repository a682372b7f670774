"""Time several ways of doing one thing, in turn, and choose with noise in mind."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from random import Random
from statistics import median, quantiles
from typing import Literal

import torch

Run = Callable[[], object]
Who = Literal["thread", "process", "another"]

SECONDS = 0.3  # for the rounds of one comparison
ROUNDS = 7, 40  # at least, at most; one takes one sample of each
DROPS = 2, 6, 12, 20  # rounds after which the slow are dropped
SAMPLE = 2e-4  # a sample shorter than this many seconds is mostly the clock and the scheduler
HOPELESS = 1.3  # times the fastest: measured no further
LONG = 25e-3  # seconds for the first calls of one
EVICTS = 2**19  # numbers, 2 MB: more than the caches of one core hold
MARGIN = 0.03  # a gain below this is not worth a more complicated way


@dataclass(frozen=True)
class Timing:
    """The median time of one call, and the relative standard error of that median."""

    milliseconds: float
    doubt: float


def in_turn(
    runs: Sequence[Run],
    device: torch.device,
    seconds: float = SECONDS,
    hopeless: float = HOPELESS,
    by: Who = "thread",
    between: Run | None = None,
) -> list[Timing]:
    """Time each of `runs`: one sample of each a round, so that what slows the machine slows all.

    Each round has an order of its own, for what one leaves in the caches helps or hurts the next.
    What is `hopeless` times slower than the fastest is dropped on the way, by the best samples, as
    another process only ever adds time. `seconds` bounds the rounds, but for the first few.
    `by` says who does the work: this thread and PyTorch's, any of this process, or another machine.
    `between` is other work, done before each call and not counted.
    """
    samples = [[sample] for sample in _first_samples(runs, device, by, between)]
    best = min(times[0] for times in samples)
    calls = max(1, min(50, ceil(SAMPLE / best)))
    left = [i for i, times in enumerate(samples) if times[0] <= 2 * hopeless * best]
    for i in left:
        samples[i] = []
    ends = time.perf_counter() + seconds
    for turn in range(ROUNDS[1]):
        if turn >= ROUNDS[0] and time.perf_counter() > ends:
            break
        for i in Random(turn).sample(left, len(left)):
            samples[i].append(_sample(runs[i], device, calls, by, between))
        if turn in DROPS:
            best = min(min(samples[i]) for i in left)
            left = [i for i in left if min(samples[i]) <= hopeless * best]
    return [_timing(times, i in left) for i, times in enumerate(samples)]


def simplest_of_the_fastest(timings: Sequence[Timing], levels: Sequence[int]) -> int:
    """Of those not slower than the fastest beyond doubt, the fastest of the lowest level.

    Beyond doubt is more than the margin, and than two standard errors of the difference.
    """
    best = min(timings, key=lambda one: one.milliseconds)

    def is_good(one: Timing) -> bool:
        doubt = 2 * (one.doubt**2 + best.doubt**2) ** 0.5
        return bool(one.milliseconds <= best.milliseconds * (1 + max(MARGIN, doubt)))

    good = [index for index, one in enumerate(timings) if is_good(one)]
    return min(good, key=lambda index: (levels[index], timings[index].milliseconds))


def other_work(device: torch.device) -> Run | None:
    """What a network's other layers do to the caches before one runs, on a CPU; None elsewhere.

    Alone and again and again, a layer finds its weights and its code where it left them.
    """
    if device.type != "cpu":
        return None
    numbers, matrix = torch.zeros(EVICTS), torch.zeros(16, 16)

    def run() -> None:
        numbers.add_(1)
        torch.mm(matrix, matrix)

    return run


def _first_samples(
    runs: Sequence[Run], device: torch.device, by: Who, between: Run | None
) -> list[float]:
    """The best of a few calls after a first one, which does what is done once.

    The best, since another process may have had the machine meanwhile: nothing is dropped for that.
    """
    found = []
    for run in runs:
        run()
        times = [_sample(run, device, 1, by, between)]
        while len(times) < 5 and sum(times) < LONG:
            times.append(_sample(run, device, 1, by, between))
        found.append(min(times))
    return found


def _sample(run: Run, device: torch.device, calls: int, by: Who, between: Run | None) -> float:
    """Seconds of one call, the mean of `calls` ones."""
    now = clock(device, by)
    at_once, times = (calls, 1) if between is None else (1, calls)
    taken = 0.0
    for _ in range(times):
        if between is not None:
            between()
        _wait(device)
        started = now()
        for _ in range(at_once):
            run()
        _wait(device)
        taken += now() - started
    return taken / calls


def clock(device: torch.device, by: Who = "thread") -> Callable[[], float]:
    """Of what one thread does on the processor, its own time; all else by the clock on the wall.

    So other processes do not count. Windows knows a thread's time to 16 ms only.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1 and sys.platform != "win32"
    clocks = {"thread": time.thread_time, "process": time.process_time}
    return clocks.get(by, time.perf_counter) if alone else time.perf_counter


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _timing(times: Sequence[float], kept: bool) -> Timing:
    """The median, and its standard error: 1.25 times the mean's (of a normal distribution).

    The deviation is told by the lower quartile, for what other processes do is above the median.
    There is no doubt about what was dropped.
    """
    middle = median(times)
    if not kept:
        return Timing(middle * 1000, 0.0)
    deviation = (middle - quantiles(times, n=4)[0]) / 0.6745
    return Timing(middle * 1000, 1.25 * deviation / len(times) ** 0.5 / middle)
