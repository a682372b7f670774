"""What a network with factorized layers would be without."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from ..layer import FactorizedConv

M = TypeVar("M", bound=nn.Module)


def is_factorized(model: nn.Module) -> bool:
    return any(isinstance(module, FactorizedConv) for module in model.modules())


def to_dense(model: M) -> M:
    """A copy with each factorized layer as one dense convolution.

    It takes the time of the network that was compressed, whatever its numbers are. Raises
    `ValueError` where a layer is none that `torch.nn` has.
    """
    layers = [module for module in model.modules() if isinstance(module, FactorizedConv)]
    return copy.deepcopy(model, memo={id(layer): layer.to_conv() for layer in layers})
