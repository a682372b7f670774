"""What a layer is made of, for whatever spells, re-runs, tunes or leaves one."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from ..plugin import Choice, Convolution, Implementation, Way
from ..tuning import Decision
from .config import ConvConfig
from .kernel import FactorizedKernel


class Parts(Protocol):
    """The arguments, the kernel, the bias and the plan of a layer, and how it stands."""

    config: ConvConfig
    weight: FactorizedKernel
    bias: nn.Parameter | None
    plan: Convolution
    way: Choice[Implementation]  # what made the plan
    training: bool
    channels_last: bool  # the output, whatever the input

    inner: Convolution  # the plan for the factors of `weight`


class Tuned(Parts, Protocol):
    """A layer whose plan may be chosen by measuring."""

    runner: Choice[Implementation]  # what was asked for
    candidates: tuple[Way, ...]
    measures: bool  # whether it is still open
    decision: Decision | None
    settled: object  # the kind of input that the decision was made for
