"""What a network with factorized layers would be without."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from ..layer import factorized_layers

M = TypeVar("M", bound=nn.Module)


def is_factorized(model: nn.Module) -> bool:
    return bool(factorized_layers(model))


def to_dense(model: M) -> M:
    """A copy with each factorized layer as one dense convolution.

    It takes the time of the network that was compressed, whatever its numbers are. Raises
    `ValueError` where a layer is none that `torch.nn` has.
    """
    found = factorized_layers(model).values()
    return copy.deepcopy(model, memo={id(module): layer.to_conv() for module, layer in found})
