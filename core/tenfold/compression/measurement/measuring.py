"""Which layers are measured how closely: the network is run so many times in all, however deep."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..running import Batch, size
from ..survey import thinned
from .task import LEVELS

PASSES = 8  # over the whole calibration: what running the network with one layer changed may take
SCORES = 60  # of a user's `evaluate`, likewise
HALF = 0.5  # of a network comes after a layer, on average: what is before it need not be run


def levels_of(layers: int, runs: int) -> tuple[float, ...]:
    """At which levels of cost each layer is measured, with so many runs for all: fewer of a deep
    network."""
    each = runs // max(1, layers)
    if each >= len(LEVELS):
        return LEVELS
    return {0: (), 1: LEVELS[1:2]}.get(each, (LEVELS[0], LEVELS[-1]))


def few(
    model: nn.Module, probes: Sequence[Batch], layers: int, passes: int
) -> tuple[list[Batch], int]:
    """The inputs that single layers are measured on, and how many runs these leave."""
    items = max(1, int(passes / HALF) // (layers * len(LEVELS)))
    batches = thinned(probes, items, model)
    return batches, int(passes / HALF) // max(1, sum(map(size, batches)))
