"""Milliseconds of two networks, and of the layers in which they differ, in another runtime."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..candidates import Speed
from ..running import Batch
from ..survey import Layer
from .latency import settle, time_modules, time_networks


def time_elsewhere(
    runtime: str, original: nn.Module, compressed: nn.Module, layers: Sequence[Layer], batch: Batch
) -> Speed:
    """Run both in turn; then each layer that was changed, alone, in turn with what it was.

    A runtime may join what a network does one after another, so that there is no telling what a
    layer takes in its place. The compressed one's layers then run as is fastest there.
    """
    settle(compressed, layers, runtime)
    before, after = time_networks([original, compressed], batch, runtime)
    found = {}
    for layer in layers:
        pair = [model.get_submodule(layer.name) for model in (original, compressed)]
        if type(pair[0]) is not type(pair[1]):
            times = [one.milliseconds for one in time_modules(pair, layer, runtime)]
            found[layer.name] = ((times[0], times[0]), (times[1], times[1]))
    return Speed(before=before, after=after, layers=found)
