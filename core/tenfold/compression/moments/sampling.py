"""Which patches of a layer's inputs are looked at, and how much each counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from ...layer import Moment
from ..running import batched
from ..survey import Layer

Places = Sequence[Sequence[Tensor]]  # of each batch and call, `(batch, *size)`
ENOUGH = 10  # patches for each of a moment's rows
FEW = 2048  # patches for sums over fewer rows: each holds many values
WORK = 2**33  # multiply-accumulates of a moment for which more patches are taken than that
APART = 8  # images from which some are left out as a whole


def plenty(layer: Layer) -> int:
    """The patches that a layer's whole moment needs, or that cost little."""
    rows = prod(layer.config.shape[1:])
    return max(ENOUGH * rows, WORK // rows**2)


class Sampling:
    """Draws some `wanted` of the patches of a layer's inputs in all batches.

    A patch is drawn in proportion to the importance of its place, `places`, and counts for the rest
    of it: so few patches say most about those that matter. Where `wanted` are fewer than there are,
    whole images may be left out, for which no patches need to be made.
    """

    def __init__(
        self, layer: Layer, batches: int, wanted: int, places: Places | None, seed: int
    ) -> None:
        self.layer, self.places = layer, places
        there = 0
        for shape in layer.shapes:
            images, size = layer.positions(shape)
            there += images * prod(layer.config.geometry.output_size(size))
        self.share = min(1.0, wanted / max(1, there * batches))
        self.generator = torch.Generator().manual_seed(seed)

    def draw(
        self, moment: Moment, x: Tensor, batch: int, call: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of one call's input, some at a time: patches, where they are, and what each counts.

        These are `(groups, n, few)`, places in the flattened output `(few,)`, and `(few,)`.
        """
        if not x.numel():
            return
        config = self.layer.config
        x = batched(x, config.order) if config.order else x.reshape(-1, x.shape[-1])
        size = config.geometry.output_size(x.shape[2:])
        counts = self.counts((len(x), *size), batch, call)
        images = counts.any(1).nonzero()[:, 0]
        counts = counts[images].flatten()
        where = (images[:, None] * prod(size) + torch.arange(prod(size))).flatten()
        at = 0
        for patches in moment.patches_of(x[images.to(x.device)]):
            some = counts[at : at + patches.shape[2]].nonzero()[:, 0]
            if len(some):
                drawn = patches[:, :, some.to(patches.device)]
                yield drawn, where[at + some], counts[at + some].to(patches)
            at += patches.shape[2]

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
