"""A rival of another kind: channels pruned, and what is left fitted to what they gave.

No training, no labels: of the channels between layers those that matter least go, and the layers
behind get the least-squares weights with which the others stand for them, by the second moment of
their inputs on the calibration, with a ridge (as GRAIL and CORP, 2026, arXiv 2602.05243). One
fraction of the channels everywhere is turned until the network has the multiply-accumulates that
are allowed. The network is run with zeros in place of what was pruned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from networks import Network
from peers import HALVINGS, Made
from torch import Tensor, nn

from tenfold.compression.survey import Layer, survey

RIDGE = 1e-3  # of the mean diagonal


@dataclass
class Between:
    """Channels that one layer makes and only some others take; the moments of what they take."""

    producer: Layer
    consumers: list[Layer]
    moments: list[Tensor]  # (channels, channels), of each consumer

    def kept(self, model: nn.Module, fraction: float) -> Tensor:
        """The channels that matter most to what the consumers give."""
        worth = sum(
            moment.diagonal() * weight_of(model, layer).square().flatten(2).sum((0, 2))
            for layer, moment in zip(self.consumers, self.moments, strict=True)
        )
        assert isinstance(worth, Tensor)
        count = max(1, round(fraction * len(worth)))
        return worth.topk(count).indices.sort().values


def compress(network: Network, budget: float) -> Made:
    """The network with at most `budget` of the MACs of all its layers."""
    layers = survey(network.model, network.example_inputs)
    found = betweens(network, layers)
    total = sum(layer.macs for layer in layers)

    def left(knob: float) -> float:
        share = {layer.name: 1.0 for layer in layers}
        for one in found:
            for layer in (one.producer, *one.consumers):
                share[layer.name] *= len(one.kept(network.model, knob)) / len(one.moments[0])
        return sum(share[layer.name] * layer.macs for layer in layers) / total

    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) <= budget else (low, middle)
    made = copy.deepcopy(network.model)
    for one in found:
        kept = one.kept(network.model, low)
        for layer, moment in zip(one.consumers, one.moments, strict=True):
            refit(made.get_submodule(layer.name), kept, moment)
    return Made(made, left(low), low)


@torch.no_grad()
def refit(module: Any, kept: Tensor, moment: Tensor) -> None:
    """Let the kept input channels stand for the others as well, which get zeros."""
    small = moment[kept][:, kept]
    ridge = RIDGE * small.diagonal().mean() * torch.eye(len(kept)).to(small)
    share = torch.linalg.solve(small + ridge, moment[kept])  # (kept, channels)
    weight = module.weight.flatten(2) if module.weight.dim() > 2 else module.weight[..., None]
    folded = torch.einsum("ock,sc->osk", weight.double(), share)
    fresh = torch.zeros_like(weight, dtype=torch.float64)
    fresh[:, kept] = folded
    module.weight.copy_(fresh.reshape(module.weight.shape))


def betweens(network: Network, layers: list[Layer]) -> list[Between]:
    """Where channels can go: found by what one channel that is no number spoils."""
    plain = [layer for layer in layers if layer.config.groups == 1 and layer.calls == 1]
    found = []
    for layer in plain:
        taken = consumers(network, layer, layers)
        if taken and all(one in plain for one in taken):
            found.append(Between(layer, taken, []))
    several = {one.name for a in found for b in found if a is not b for one in a.consumers
               if one in b.consumers}  # fmt: skip
    found = [one for one in found if not any(layer.name in several for layer in one.consumers)]
    for one in found:
        one.moments = [moment(network, layer) for layer in one.consumers]
    return found


def consumers(network: Network, producer: Layer, layers: list[Layer]) -> list[Layer]:
    """The layers that take one channel of another's output as one of theirs, and no other way."""
    taken: list[Layer] = []
    mixed = False

    def spoil(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, 0] = float("nan")
        return output

    def clean(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return output.nan_to_num()

    def look(layer: Layer) -> Callable[..., None]:
        def see(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            nonlocal mixed
            channels = given[0].isnan().movedim(1, 0).flatten(1).any(1)
            if not bool(channels.any()):
                return
            alone = bool(channels[0]) and not bool(channels[1:].any())
            if alone and len(channels) == producer.config.out_channels:
                taken.append(layer)
            else:
                mixed = True

        return see

    model = network.model
    handles = []
    for layer in layers:
        module, own = model.get_submodule(layer.name), layer is producer
        handles.append(module.register_forward_hook(spoil if own else clean))
        handles.append(module.register_forward_pre_hook(look(layer)))
    with torch.no_grad():
        given = model(*(one[:1] for one in network.example_inputs))
    for handle in handles:
        handle.remove()
    return [] if mixed or bool(given.isnan().any()) else taken


def moment(network: Network, layer: Layer) -> Tensor:
    """Of a layer's inputs over the calibration, channel by channel."""
    sums: list[Tensor] = []

    def see(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        rows = given[0].movedim(1, 0).flatten(1).double()
        sums.append(rows @ rows.mT)

    with torch.no_grad():
        handle = network.model.get_submodule(layer.name).register_forward_pre_hook(see)
        for batch in network.calibration:
            network.model(*batch)
        handle.remove()
    return torch.stack(sums).sum(0)


def weight_of(model: nn.Module, layer: Layer) -> Tensor:
    weight: Any = model.get_submodule(layer.name).weight
    found: Tensor = weight.detach() if weight.dim() > 2 else weight.detach()[..., None]
    return found.double()
