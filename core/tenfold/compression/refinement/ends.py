"""What a network gives where its blocks end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..moments import Look
from ..running import Batch, call, evaluating, tensors
from ..survey import Layer, Subject
from .blocks import Block, Calls, Place, blocks, hooks, watched

Ends = dict[Place, Tensor]


class Kept(Look):
    """What the original gave at the ends of blocks in the run for its gradients, of all pieces.

    At as many ends as `memory` bytes hold; nothing where these do not hold the output alone.
    """

    def __init__(self, subject: Subject, memory: int) -> None:
        self.layers, self.count, self.memory = subject.every, len(subject.pieces), memory
        self.found = blocks(self.layers, [self.layers[0].name])
        self.ends: list[Ends] = []
        self.calls: Calls = {}
        self.running = False

    def hooks(self, model: nn.Module) -> Sequence[Any]:
        return hooks(model, self.found, self.calls, self._see)

    def _see(self, place: Place, x: Tensor) -> None:
        if self.running:
            self.ends[-1][place] = x.detach().clone()

    def begin(self) -> None:
        self.calls.clear()
        self.ends.append({})
        self.running = True

    def gave(self, output: Any) -> None:
        self.running = False  # a step that is run again for its gradient is not seen again
        given = self.ends[-1] | last(output)
        if len(self.ends) == 1:
            self.found = fewer(self.layers, self.found, given, self.memory // self.count)
        self.ends[-1] = at(given, self.found)
        if size(given, self.found) * self.count > self.memory:
            self.ends.clear()

    def forget(self) -> None:
        self.ends.clear()

    def of(self, found: Sequence[Block]) -> tuple[list[Block], list[Ends]] | None:
        """What is known at the ends of some blocks, or of fewer of these; None where nothing is."""
        if len(self.ends) < self.count:
            return None
        own = blocks(self.layers, found[0].layers, len(self.found))
        return own, [at(one, own) for one in self.ends]


def stored(
    subject: Subject, found: list[Block], memory: int, kept: Kept
) -> tuple[list[Block], list[Batch], list[Ends]]:
    """What the original gives on pieces of the calibration, at the ends that the memory holds.

    Of as many pieces as it holds where that is too much at the output alone. What was `kept` of
    another run takes none.
    """
    batches, known = subject.pieces, kept.of(found)
    if known is not None:
        return known[0], batches, known[1]
    first = ends(subject.model, found, batches[0])
    found = fewer(subject.every, found, first, memory // len(batches))
    fit = max(1, memory // max(1, size(first, found)))
    batches = batches[:: -(-len(batches) // fit)]
    return found, batches, [ends(subject.model, found, batch) for batch in batches]


def fewer(layers: Sequence[Layer], found: list[Block], given: Ends, memory: int) -> list[Block]:
    """As many blocks as are within a memory for what is given where they end, or one."""
    changed = found[0].layers
    while len(found) > 1 and size(given, found) > memory:
        found = blocks(layers, changed, len(found) // 2)
    return found


def size(given: Ends, found: Sequence[Block]) -> int:
    """The bytes of what is given where some blocks end."""
    return sum(one.numel() * one.element_size() for one in at(given, found).values())


def at(given: Ends, found: Sequence[Block]) -> Ends:
    """Of what is given, that where some blocks end."""
    return {p: one for p, one in given.items() if any(block.has(p) for block in found)}


def last(output: Any) -> Ends:
    """What a network gives at its own end."""
    found = enumerate(tensors(output))
    return {(n, 0): one.detach().clone() for n, one in found if one.is_floating_point()}


def ends(model: nn.Module, found: Sequence[Block], batch: Batch) -> Ends:
    """Run a network, and keep what it gives where blocks end."""
    kept: Ends = {}

    def keep(place: Place, x: Tensor) -> None:
        kept[place] = x.detach().clone()

    with watched(model, found, keep), evaluating(model):
        return kept | last(call(model, batch))


def gaps(
    model: nn.Module, found: Sequence[Block], batches: Sequence[Batch], answers: Sequence[Ends]
) -> list[float]:
    """Where each block ends, the relative change from the original's `answers` to some inputs."""
    sums = [[0.0, 0.0] for _ in found]
    for batch, wanted in zip(batches, answers, strict=True):
        given = ends(model, found, batch)
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
