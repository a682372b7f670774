"""Which patches of a layer's inputs are looked at, and how much each counts."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ..survey import Layer

Places = Sequence[Sequence[Tensor]]  # of each batch and call, `(batch, *size)`
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

    A patch is drawn in proportion to the importance of its place, `places`, and counts for the rest
    of it: so few patches say most about those that matter. Where `wanted` are fewer than there are,
    whole images may be left out.
    """

    def __init__(
        self, layer: Layer, batches: int, wanted: int, places: Places | None, seed: int
    ) -> None:
        self.layer, self.places = layer, places
        self.share = min(1.0, wanted / max(1, available(layer, batches)))
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, shape: Sequence[int], batch: int, call: int) -> tuple[Tensor, Tensor]:
        """Of one call's input: places in the flattened output, `(few,)`, and what each counts."""
        places = self.layer.places(shape)
        if not prod(places):
            return torch.empty(0, dtype=torch.long), torch.empty(0)
        counts = self.counts(places, batch, call).flatten()
        where = counts.nonzero()[:, 0]
        return where, counts[where]

    def counts(self, shape: Sequence[int], batch: int, call: int) -> Tensor:
        """How much each place of an output `(batch, *size)` counts: 0 where it is not drawn."""
        worth = self.worth(shape, batch, call).reshape(shape[0], -1)
        if self.share == 1:
            return worth
        share = self.share
        if share < 0.5 and len(worth) >= APART:
            images = torch.rand(len(worth), generator=self.generator) < 2 * share
            worth, share = worth * images[:, None], 0.5
        likely = (share * worth).clamp(max=1)
        drawn = torch.rand(worth.shape, generator=self.generator) < likely
        return torch.where(drawn, worth / likely.clamp_min(1e-30), torch.zeros_like(worth))

    def worth(self, shape: Sequence[int], batch: int, call: int) -> Tensor:
        """The importance of each place, 1 where it is not known."""
        calls = [] if self.places is None or batch >= len(self.places) else self.places[batch]
        if call >= len(calls) or calls[call].numel() < prod(shape):
            return torch.ones(*shape)
        found = calls[call].reshape(-1, *calls[call].shape[1:]).cpu()
        if self.layer.config.order == 0:
            return found.reshape(shape[0])
        for axis, size in enumerate(shape):  # with an output_size it may have more places
            found = found.narrow(axis, 0, size)
        return found
