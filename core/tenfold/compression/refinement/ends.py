"""What a network gives where its blocks end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..running import Batch, call, evaluating, tensors
from ..survey import Subject, pieces
from .blocks import Block, Place, blocks, watched

STEPS = 24  # an epoch, or fewer: pieces of batches, where these can be parted
Ends = dict[Place, Tensor]


def stored(
    subject: Subject, found: list[Block], memory: int
) -> tuple[list[Block], list[Batch], list[Ends]]:
    """What the original gives on pieces of the batches, at as many ends as the memory holds.

    Of as many pieces as it holds where that is too much at the output alone.
    """
    items = -(-subject.items // STEPS)
    batches = pieces(subject.fitted, items, subject.model)
    first, changed = ends(subject.model, found, batches[0]), found[0].layers
    while len(found) > 1 and size(first, found) * len(batches) > memory:
        found = blocks(subject.every, changed, len(found) // 2)
    fit = max(1, memory // max(1, size(first, found)))
    batches = batches[:: -(-len(batches) // fit)]
    return found, batches, [ends(subject.model, found, batch) for batch in batches]


def size(given: Ends, found: Sequence[Block]) -> int:
    """The bytes of what is given where some blocks end."""
    at = [one for place, one in given.items() if any(block.has(place) for block in found)]
    return sum(one.numel() * one.element_size() for one in at)


def ends(model: nn.Module, found: Sequence[Block], batch: Batch) -> Ends:
    """Run a network, and keep what it gives where blocks end."""
    kept: Ends = {}

    def keep(place: Place, x: Tensor) -> None:
        kept[place] = x.detach().clone()

    with watched(model, found, keep), evaluating(model):
        for number, output in enumerate(tensors(call(model, batch))):
            if output.is_floating_point():
                keep((number, 0), output)
    return kept


def gaps(subject: Subject, model: nn.Module, found: Sequence[Block]) -> list[float]:
    """Where each block ends, the relative change from the original on held-out inputs."""
    sums = [[0.0, 0.0] for _ in found]
    for batch in subject.held:
        wanted, given = (ends(one, found, batch) for one in (subject.model, model))
        for place in wanted.keys() & given.keys():
            gap, own = squares(wanted[place], given[place])
            pair = sums[next(at for at, block in enumerate(found) if block.has(place))]
            pair[0] += float(gap)
            pair[1] += float(own)
    return [(gap / own) ** 0.5 if own else 0.0 for gap, own in sums]


def squares(wanted: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the gap between two tensors and of the first, where that is finite; of tensors of
    other shapes zeros."""
    if x.shape != wanted.shape:
        return x.new_zeros(()), x.new_zeros(())
    there = torch.isfinite(wanted)
    if not bool(there.all()):
        x, wanted = x[there], wanted[there]
    return (x - wanted).square().sum(), wanted.square().sum()
