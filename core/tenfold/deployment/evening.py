"""What passes between the convolutions of a factorized layer, brought to one range for eight bits:
that on the calibration."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..compression.running import Flat, hooked
from ..layer import factorized_layers, plain_form
from ..run import TRANSPOSED, by_channel, part_evenly
from .files import Inputs


@torch.no_grad()
def evened(network: Flat, batches: Sequence[Inputs]) -> Flat:
    """A copy that gives the same, without factorized layers, in plain modules."""
    layers = factorized_layers(network).values()
    forms = {id(module): plain_form(layer) for module, layer in layers}
    made = copy.deepcopy(network, memo=dict(forms))
    pairs = [pair for form in forms.values() for pair in joints(form)]
    found = ranges(made, [before for before, _ in pairs], batches)
    for before, after in pairs:
        part(before, after, found[before])
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


def part(before: Any, after: Any, largest: Tensor) -> None:
    """Divide the channels between two modules where they are made, and multiply where taken."""
    made, taken = (_view(module, module is before) for module in (before, after))
    scale = part_evenly(made, taken, largest)
    if before.bias is not None:
        before.bias.div_(scale)


def _view(module: Any, made: bool) -> Tensor:
    module.weight.data = module.weight.data.contiguous()
    groups, transposed = getattr(module, "groups", 1), isinstance(module, TRANSPOSED)
    return by_channel(module.weight.data, groups, transposed, made)
