"""What a compression did, layer by layer and in all, as data."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer

from ..request import Metric, Objective


def _in_json(value: float) -> float | str:
    """Infinity is no number of JSON's; as a string it is read back."""
    return value if math.isfinite(value) else str(value)


Number = Annotated[float, PlainSerializer(_in_json, when_used="json")]


class Change(BaseModel):
    """A number of the original network, and the same of the compressed one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: Number
    after: Number


class LayerReport(BaseModel):
    """One layer. Parameters are its own; MACs and milliseconds those of all its calls in one run.

    One without a shape stands for all that is in no layer: functional calls, attention.

    `error` is the relative change of the network's output when this layer alone is replaced,
    `output_error` that of the layer's own output, `kernel_error` that of its kernel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str  # the class of the original, as "Conv2d"
    shape: tuple[int, ...]  # of the kernel, (out, in/groups, *k)
    calls: int  # in one run of the network
    factorization: str | None  # None where it stays dense
    implementation: str | None
    rank: int | tuple[int, ...] | None
    parameters: Change
    macs: Change
    milliseconds: Change | None  # None where it was not measured
    kernel_error: Number
    output_error: Number
    error: Number
    reason: str | None = None  # why it stays as it was, where it does
    already: bool = False  # factorized before
    joint: str | None = None  # the first of the layers that it shares its factors with, if it does


class Point(BaseModel):
    """One budget of several, and what it buys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: Number
    parameters: Number
    macs: Number
    milliseconds: Number | None
    error: Number
    score: Number | None


class Slower(BaseModel):
    """Why a network is slower than the original: what its budget asks for.

    `layers` are those that are slower than dense in their place, the costliest first; `budget` is
    the smallest that was found at which the network is faster, None where none was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[str, ...]
    budget: Number | None


class RefinedBlock(BaseModel):
    """Neighbouring layers, and the relative change of what they made, on held-out inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[str, ...]
    before: Number
    after: Number


class Refinement(BaseModel):
    """What refining a network came to: of each block, where any of it was kept, and in all.

    `share` is how much of the way that it went was kept, 0 where it did not help on held-out
    inputs; `reason` says why it was not tried, where it was not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: tuple[RefinedBlock, ...]
    share: Number
    reason: str | None = None


class Stage(BaseModel):
    """Layers alike that were to be tied: the change of the output with them tied, and apart.

    Both of as many parameters, before corrections. `error` is None where nothing was to be saved;
    `reason` says why they are apart, where they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: tuple[str, ...]
    error: Number | None
    apart: Number
    reason: str | None = None

    def after_all(self, reason: str) -> Stage:
        """The same left apart, for a reason that was seen later."""
        return self if self.reason else self.model_copy(update={"reason": reason})


class Findings(BaseModel):
    """A whole compression, as data: what a `Report` holds.

    MACs and milliseconds are those of one run on `inputs`, shapes, on `device` with `threads`, of
    each network in its better memory format; `channels_last` is whether the compressed one was
    given that of images.
    `error` is the relative change of the network's output on held-out inputs; `score` what the
    user's `score` or `evaluate` gave. `curve` has a point for each budget that was asked for, and
    `warnings` say why these numbers are to be doubted, if they are. `passes` says how often the
    network was run on the whole calibration, in all; `device` is what was timed, in `runtime`.
    `bytes` are what a network that is to be stored in eight bits takes, before in float32; its
    layers' errors are then those of rounded weights, `error` is that of the network as it is.
    `constant` is the error were the mean of the outputs given for each input. `stages` are the
    layers that `joint` asked to tie, tied or not; `lagging` those that are slower than dense in
    their place all the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Metric
    objective: Objective
    budget: Number | None  # None where an error or a score was asked for
    layers: tuple[LayerReport, ...]
    parameters: Change
    macs: Change
    bytes: Change | None = None
    milliseconds: Change | None
    error: Number
    constant: Number | None = None
    score: Change | None
    curve: tuple[Point, ...] = ()
    warnings: tuple[str, ...] = ()
    passes: Number = 0.0
    refinement: Refinement | None = None  # None where it was not asked for
    stages: tuple[Stage, ...] = ()
    slower: Slower | None = None  # None where the network is faster, or need not be
    lagging: tuple[str, ...] = ()  # of a network that is faster
    inputs: tuple[tuple[int, ...], ...]  # the shapes of what one run takes
    device: str
    runtime: str = "eager"
    threads: int
    channels_last: bool = False
    versions: dict[str, str]
