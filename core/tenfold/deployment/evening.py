"""What passes between the convolutions of a factorized layer, brought to one range for eight bits.

All its channels are rounded in steps of one size, and they have ranges as different as singular
values are. A channel may be divided by any number where one factor makes it, and multiplied by it
where the next one takes it (Nagel et al. 2019, arXiv 1906.04721): here by its range on the
calibration, less what that costs the next weight (Xiao et al. 2022, arXiv 2211.10438).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..compression.running import Flat, hooked
from ..layer import TRANSPOSED, FactorizedConv, plain_form
from .files import Inputs

SHARE = 0.75  # of the way to one range; the rest of it goes to one range of the weight
LEAST = 1e-3  # of the largest range: what is smaller may be larger elsewhere


@torch.no_grad()
def evened(network: Flat, batches: Sequence[Inputs]) -> Flat:
    """A copy that gives the same, without factorized layers, in plain modules."""
    layers = [module for module in network.modules() if isinstance(module, FactorizedConv)]
    forms = {id(layer): plain_form(layer) for layer in layers}
    made = copy.deepcopy(network, memo=dict(forms))
    pairs = [pair for form in forms.values() for pair in joints(form)]
    found = ranges(made, [before for before, _ in pairs], batches)
    for before, after in pairs:
        part_evenly(before, after, found[before])
    return made


def joints(form: nn.Module) -> Iterator[tuple[Any, Any]]:
    """The pairs of modules with weights, the second of which takes what the first gives."""
    for chain in form.modules():
        if isinstance(chain, nn.Sequential):
            for before, after in pairwise(chain):
                if hasattr(before, "weight") and hasattr(after, "weight"):
                    yield before, after


def ranges(
    network: Flat, modules: Sequence[nn.Module], batches: Sequence[Inputs]
) -> dict[nn.Module, Tensor]:
    """The largest number in each channel of what some modules give, on all batches."""
    found: dict[nn.Module, Tensor] = {}

    def look(module: nn.Module, _: Any, y: Tensor) -> None:
        channels = y.movedim(-1 if isinstance(module, nn.Linear) else 1, 0).flatten(1)
        largest = channels.abs().amax(1)
        found[module] = torch.maximum(found.get(module, largest), largest)

    with hooked([module.register_forward_hook(look) for module in modules]):
        for inputs in batches:
            network(*inputs)
    return found


def part_evenly(before: Any, after: Any, largest: Tensor) -> None:
    """Divide the channels between two modules where they are made, and multiply where taken."""
    for module in (before, after):
        module.weight.data = module.weight.data.contiguous()
    made, taken = by_channel(before, True), by_channel(after, False)
    weights = taken.abs().amax((1, 3)).flatten()
    if not bool(largest.max() > 0 and weights.max() > 0):
        return
    scale = _floored(largest) ** SHARE / _floored(weights) ** (1 - SHARE)
    made.div_(scale.reshape(len(made), 1, -1, 1))
    taken.mul_(scale.reshape(len(taken), 1, -1, 1))
    if before.bias is not None:
        before.bias.div_(scale)


def by_channel(module: Any, made: bool) -> Tensor:
    """A view of a weight, `(groups, others, channels of a group, taps)`, the channels being those
    that it makes, or takes."""
    groups = getattr(module, "groups", 1)
    weight: Tensor = module.weight.data
    view = weight.view(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return view.transpose(1, 2) if made != isinstance(module, TRANSPOSED) else view


def _floored(sizes: Tensor) -> Tensor:
    return sizes.clamp_min(LEAST * float(sizes.max()))
