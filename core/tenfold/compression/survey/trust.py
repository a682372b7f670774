"""What has to be said of the inputs before a number measured on them is believed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ..running import Batch, members, size
from .layer import Layer

FEW = 32  # samples held out, below which an error is one of those that were chosen by
SCARCE = 0.25  # patches for each input of a layer
KNOWN = 4  # standard deviations from which neighbours have to do with each other


def doubts(
    given: bool,
    example: Batch,
    fitted: Sequence[Batch],
    held: Sequence[Batch],
    layers: Sequence[Layer],
) -> tuple[str, ...]:
    """The reasons to doubt what is measured on some batches.

    `given` is whether there was a calibration beside the example; `layers` are those that may be
    replaced.
    """
    found = []
    judged = sum(map(size, held))
    if not given:
        found.append("no calibration was given, and example_inputs stood in for it")
    if all(any(one is other for other in held) for one in fitted):
        found.append(
            "there was nothing to hold out: the error is that of the inputs that were fitted to"
        )
    elif judged < FEW:
        were = "samples were" if judged > 1 else "sample was"
        found.append(
            f"only {judged} {were} held out, to choose by and to judge: others' error may be larger"
        )
    items = sum(map(size, fitted)) / max(1, size(example))
    seen = {one.name: round(items * patches(one)) for one in layers}
    scarce = [one for one in layers if seen[one.name] < SCARCE * prod(one.config.shape[1:])]
    if scarce:
        one = scarce[0]
        more = f" and {len(scarce) - 1} more layers" if len(scarce) > 1 else ""
        found.append(
            f"{one.name!r}{more} saw fewer inputs than it takes to fit ({seen[one.name]} of "
            f"{prod(one.config.shape[1:])} numbers each)"
        )
    if all(map(is_noise, [*fitted, *held])):
        found.append("the inputs are noise, on which a trained network does not show what it does")
    return tuple(found)


def patches(layer: Layer) -> int:
    """How many patches a layer sees in one run on the example."""
    return sum(batch * prod(output) for batch, _, output in layer.maps())


def is_noise(batch: Batch) -> bool:
    """Whether no value of a batch of maps or sequences has to do with its neighbours."""
    found = [x for x in members(batch) if x.dim() > 2 and x.is_floating_point()]
    return bool(found) and all(map(_unrelated, found))


def _unrelated(x: Tensor) -> bool:
    wide = x.detach().double() - x.detach().double().mean()
    if wide.numel() < 64 or not bool(torch.isfinite(wide).all()) or not float(wide.square().sum()):
        return False
    for axis in range(2, wide.dim()):
        size = wide.shape[axis]
        if size > 1:
            one, other = wide.narrow(axis, 0, size - 1), wide.narrow(axis, 1, size - 1)
            share = float((one * other).mean() / wide.square().mean())
            if abs(share) > KNOWN / one.numel() ** 0.5:
                return False
    return max(wide.shape[2:]) > 1
