"""What the network's output makes of each layer's: channel by channel, and place by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from torch import Tensor

from ...algebra import add_square, mirrored
from ..running import batched
from ..survey import Layer

FLOOR = 0.1  # of a place's mean importance: what a first-order gradient does not know


@dataclass
class Importance:
    """How much the network's output changes with each layer's, to first order.

    `channels` holds for each layer the second moment `(groups, out, out)` of the gradients at its
    output, a batch, `places` for each layer, batch and call the squared gradient at each place of
    the output, `(batch, *size)`. A layer that no gradient reaches has none; `gains` has, for those
    that are normalised next, what the normalisation makes of their outputs.
    """

    channels: dict[str, Tensor] = field(default_factory=dict)
    gains: dict[str, Tensor] = field(default_factory=dict)
    places: dict[str, list[list[Tensor]]] = field(default_factory=dict)

    def add(self, layer: Layer, batch: int, gradient: Tensor) -> Tensor:
        """Take in the gradient at the output of one call; its square at each place."""
        order, groups = layer.config.order, layer.config.groups
        rows = batched(gradient, order).movedim(-order - 1, 0)
        squares = self.places.setdefault(layer.name, [])
        squares += [[] for _ in range(batch + 1 - len(squares))]
        square = rows.float().square().sum(0)
        squares[batch].append(square)
        if not gradient.numel():  # the call of a batch of no items, or a part of one
            return square
        flat = rows.flatten(1).float().reshape(groups, -1, rows[0].numel())
        if layer.name not in self.channels:
            self.channels[layer.name] = flat.new_zeros(groups, *2 * flat.shape[1:2])
        add_square(self.channels[layer.name], flat)  # mirrored in the end
        return square

    def at(self, layer: Layer, batch: int, call: int) -> Tensor | None:
        """That of the places of one call's output, where it is known."""
        calls = self.places.get(layer.name, [])
        several = calls[batch] if batch < len(calls) else []
        return several[call] if call < len(several) else None

    def worth(self, layer: Layer) -> Tensor | None:
        """The second moment that a layer's outputs count in."""
        return self.channels.get(layer.name, self.gains.get(layer.name))

    def finished(self, memory: int, batches: int) -> Importance:
        """What is finite, with places of mean 1 for each layer, or none where they take more."""
        sizes = {
            name: float(one.diagonal(dim1=1, dim2=2).sum()) for name, one in self.channels.items()
        }
        kept = {n: mirrored(self.channels[n]) for n, size in sizes.items() if 0 < size < inf}
        channels = {n: one.double() / batches for n, one in kept.items()}
        size = sum(4 * w.numel() for calls in self.places.values() for one in calls for w in one)
        places = {} if size > memory else {n: _levelled(self.places[n]) for n in channels}
        return Importance(channels, places=places)


def _levelled(places: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    count = sum(one.numel() for calls in places for one in calls)
    mean = sum(float(one.double().sum()) for calls in places for one in calls) / count
    return [[(one / mean + FLOOR) / (1 + FLOOR) for one in calls] for calls in places]


def scaling(norm: Any, groups: int) -> Tensor:
    """`(γ/σ)²` of a normalisation, as a diagonal `(groups, channels/groups, channels/groups)`."""
    variance = norm.running_var
    if variance is None:
        return torch.eye(norm.num_features // groups).expand(groups, -1, -1)
    gain = (variance.detach().double() + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.detach().double()
    return torch.diag_embed(gain.square().reshape(groups, -1))
