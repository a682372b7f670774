"""Which patches of a layer's inputs are looked at, and how much each counts."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ..survey import Layer

ENOUGH = 2  # patches for each of a moment's rows, at least
FEW = 2048  # patches for sums over fewer rows: each holds many values
MANY = 2**15  # patches that say all
WORK = 2**36  # multiply-accumulates of a moment for which so many are taken
APART = 8  # images from which some are left out as a whole


def plenty(layer: Layer) -> int:
    """The patches that a layer's whole moment needs, or that cost little."""
    rows = prod(layer.config.shape[1:])
    return max(ENOUGH * rows, min(MANY, WORK // rows**2))


def available(layer: Layer, batches: int) -> int:
    """The patches that a layer sees in so many batches like the example."""
    return batches * sum(prod(layer.places(shape)) for shape in layer.shapes)


class Sampling:
    """Draws some `wanted` of the patches of a layer's inputs in all batches.

    A patch is drawn in proportion to the importance of its place, among those so far, and counts
    for the rest of it: so few patches say most about those that matter. Where `wanted` are fewer
    than there are, whole images may be left out.
    """

    def __init__(self, layer: Layer, batches: int, wanted: int, seed: int) -> None:
        self.layer = layer
        self.share = min(1.0, wanted / max(1, available(layer, batches)))
        self.generator = torch.Generator().manual_seed(seed)
        self.sum, self.count = 0.0, 0  # of the importance of all places so far

    def draw(self, shape: Sequence[int], worth: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of one call's input: places in the flattened output, `(few,)`, and what each counts.

        `worth`, `(batch, *size)`, is the importance of its places; None is the same for all.
        """
        places = self.layer.places(shape)
        if not prod(places):
            return torch.empty(0, dtype=torch.long), torch.empty(0)
        counts = self.counts(self.worth(places, worth)).flatten()
        where = counts.nonzero()[:, 0]
        return where, counts[where]

    def counts(self, worth: Tensor) -> Tensor:
        """How much each place `(batch, places)` counts: 0 where it is not drawn."""
        if self.share == 1:
            return worth
        share, kept = self.share, worth
        self.sum, self.count = self.sum + float(worth.sum()), self.count + worth.numel()
        if share < 0.5 and len(worth) >= APART:
            images = torch.rand(len(worth), generator=self.generator) < 2 * share
            kept, share = worth * images[:, None], 0.5
        likely = (share * self.count / max(self.sum, 1e-30) * worth).clamp(max=1)
        drawn = torch.rand(worth.shape, generator=self.generator) < likely
        return torch.where(drawn, kept / likely.clamp_min(1e-30), torch.zeros_like(worth))

    def worth(self, shape: Sequence[int], given: Tensor | None) -> Tensor:
        """The importance of each place, `(batch, places)`: 1 where it is not known."""
        if given is None or given.numel() < prod(shape):
            return torch.ones(shape[0], prod(shape[1:]))
        found = given.reshape(-1, *given.shape[1:]).cpu()
        if self.layer.config.order == 0:
            return found.reshape(shape[0], -1)
        for axis, size in enumerate(shape):  # with an output_size it may have more places
            found = found.narrow(axis, 0, size)
        return found.reshape(shape[0], -1)
