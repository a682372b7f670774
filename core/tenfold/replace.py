"""Replace the convolutions of a model by factorized ones, in a copy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from .conv import FactorizedConv
from .hooks import hooks
from .source import PLAIN, TRANSPOSED

Report = Callable[[str], None]


def replace_convolutions(
    model: nn.Module, report: Report | None = None, **request: Any
) -> tuple[nn.Module, dict[str, FactorizedConv]]:
    """Copy a model with its convolutions factorized, as `FactorizedConv.from_conv(**request)`.

    The hook `tenfold_select` may leave a layer dense or change its request. `report` is called with
    each layer's name before it is converted. Returns the copy and the new layers by name; the model
    is not changed.
    """
    copied = copy.deepcopy(model)
    found = {
        name: module
        for name, module in copied.named_modules()
        if isinstance(module, (*PLAIN, *TRANSPOSED))
    }
    layers = {}
    for name, conv in found.items():
        if report is not None:
            report(name)
        wanted = hooks().tenfold_select(name=name, module=conv)
        if wanted is False:
            continue
        chosen = wanted if isinstance(wanted, dict) else {}
        layers[name] = FactorizedConv.from_conv(conv, **{**request, **chosen})
    return substitute(copied, layers), layers


def substitute(model: nn.Module, layers: dict[str, FactorizedConv]) -> nn.Module:
    """Put `layers` in the places of `model` that their names say, and return it."""
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    return model
