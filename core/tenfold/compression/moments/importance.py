"""What the network's output makes of each layer's: channel by channel, and place by place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from ..running import Batch, batched, call, evaluating, hooked, tensors
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

    def add(self, layer: Layer, batch: int, gradient: Tensor) -> None:
        """Take in the gradient at the output of one call."""
        order, groups = layer.config.order, layer.config.groups
        rows = batched(gradient, order).movedim(-order - 1, 0)
        squares = self.places.setdefault(layer.name, [])
        squares += [[] for _ in range(batch + 1 - len(squares))]
        squares[batch].append(rows.float().square().sum(0))
        if not gradient.numel():  # the call of a batch of no items, or a part of one
            return
        flat = rows.flatten(1).float().reshape(groups, -1, rows[0].numel())
        added = (flat @ flat.mT).double()
        total = self.channels.get(layer.name)
        self.channels[layer.name] = added if total is None else total + added

    def worth(self, layer: Layer) -> Tensor | None:
        """The second moment that a layer's outputs count in."""
        return self.channels.get(layer.name, self.gains.get(layer.name))

    def finished(self, memory: int, batches: int) -> Importance:
        """What is finite, with places of mean 1 for each layer, or none where they take more."""
        sizes = {
            name: float(one.diagonal(dim1=1, dim2=2).sum()) for name, one in self.channels.items()
        }
        channels = {n: self.channels[n] / batches for n, size in sizes.items() if 0 < size < inf}
        size = sum(4 * w.numel() for calls in self.places.values() for one in calls for w in one)
        places = {} if size > memory else {n: _levelled(self.places[n]) for n in channels}
        return Importance(channels, places=places)


def _levelled(places: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    count = sum(one.numel() for calls in places for one in calls)
    mean = sum(float(one.double().sum()) for calls in places for one in calls) / count
    return [[(one / mean + FLOOR) / (1 + FLOOR) for one in calls] for calls in places]


def importances(
    model: nn.Module, layers: Sequence[Layer], batches: Iterable[Batch], seed: int, memory: int
) -> Importance:
    """Measure what the layers' outputs are worth on some batches.

    By the gradients of random projections of the network's output, whose second moment is
    `E Jᵀ J` (Hutchinson 1990, doi:10.1080/03610919008812866; the output side of K-FAC, Martens and
    Grosse 2015, arXiv 1503.05671).
    """
    found, count = Importance(), 1
    probes: list[tuple[Layer, Tensor]] = []

    def probe(layer: Layer) -> Any:
        def hook(_: nn.Module, given: Any, output: Tensor) -> Tensor:
            zero = torch.zeros_like(output, requires_grad=True)
            probes.append((layer, zero))
            return output + zero

        return hook

    handles = [
        model.get_submodule(layer.name).register_forward_hook(probe(layer)) for layer in layers
    ]
    asked = {p: p.requires_grad for p in model.parameters()}
    generator = torch.Generator().manual_seed(seed)
    try:
        model.requires_grad_(False)
        with hooked(handles), evaluating(model), torch.enable_grad():
            for index, batch in enumerate(batches):
                count = index + 1
                probes.clear()
                given = [y for y in tensors(call(model, batch)) if y.requires_grad]
                reached = list(probes)  # a step that is run again for its gradient adds more
                if not given:
                    return Importance()
                ends = [_signs(y, generator) for y in given]
                zeros = [zero for _, zero in reached]
                try:
                    gradients = torch.autograd.grad(given, zeros, ends, allow_unused=True)
                except RuntimeError:  # a step of the network has no derivative
                    return Importance()
                for (layer, zero), gradient in zip(reached, gradients, strict=True):
                    found.add(layer, index, zero if gradient is None else gradient)
    finally:
        for parameter, wanted in asked.items():
            parameter.requires_grad_(wanted)
    return found.finished(memory, count)


def scaling(norm: Any, groups: int) -> Tensor:
    """`(γ/σ)²` of a normalisation, as a diagonal `(groups, channels/groups, channels/groups)`."""
    variance = norm.running_var
    if variance is None:
        return torch.eye(norm.num_features // groups).expand(groups, -1, -1)
    gain = (variance.detach().double() + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.detach().double()
    return torch.diag_embed(gain.square().reshape(groups, -1))


def _signs(output: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs, over the norm of the output."""
    drawn = torch.randint(2, output.shape, generator=generator).to(output)
    size: Tensor = output.detach().nan_to_num(0, 0, 0).norm().clamp_min(1e-12)
    return (2 * drawn - 1) / size
