"""Patches of a layer's inputs at some places of its output; no others are made."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor

from ...layer import unfold
from ..running import batched
from ..survey import Layer

CHUNK = 2**25  # elements that are made at a time: 128 MiB in float32


class Patches:
    """Where each place of an output of a layer looks, and what is there."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        one = {"in_channels": 1, "out_channels": 1, "groups": 1}
        self.numbers = layer.config.model_copy(update=one)
        self.looks: dict[tuple[int, ...], Tensor] = {}

    def look(self, size: tuple[int, ...]) -> Tensor:
        """Which elements a place sees, `(taps, places)`: from 1 on, 0 being the padding.

        They are the patches of the elements' numbers.
        """
        if size not in self.looks:
            numbers = torch.arange(1, prod(size) + 1, dtype=torch.float64)
            found = unfold(self.numbers, numbers.reshape(1, 1, *size))
            self.looks[size] = found[0].long()
        return self.looks[size]

    def at(self, x: Tensor, where: Tensor) -> Iterator[tuple[Tensor, slice]]:
        """The patches of an input, `(groups, in * k…, few)`, at places of the flattened output.

        Some at a time, and which of `where` these are.
        """
        config = self.layer.config
        x = batched(x, config.order) if config.order else x.reshape(-1, x.shape[-1])
        look = self.look(tuple(x.shape[2:]))
        where = where.to(x.device)
        images, places = where // look.shape[1], where % look.shape[1]
        used, images = images.unique(return_inverse=True)
        rows = (x[used].flatten(2) if config.order else x[used, :, None]).movedim(1, 2)
        rows = rows if rows.dtype == torch.float64 else rows.float()
        inside = rows.shape[1]
        rows = torch.cat([rows.new_zeros(1, rows.shape[2]), rows.flatten(0, 1)])
        if not bool(torch.isfinite(rows).all()):
            raise ValueError("the input has NaN or infinite values: leave that batch out")
        step = max(1, CHUNK // (look.shape[0] * rows.shape[1]))
        for start in range(0, len(where), step):
            some = slice(start, start + step)
            seen = look.to(x.device)[:, places[some]]
            seen = torch.where(seen > 0, seen + inside * images[some], 0)
            found = rows.index_select(0, seen.flatten()).reshape(*seen.shape, -1)
            yield found.permute(2, 0, 1).reshape(config.groups, -1, seen.shape[1]), some
