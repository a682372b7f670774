"""Factorize convolutions of a model, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from ..layer import FactorizedConv
from ..plugin import ask_hooks


def replace_convolutions(
    model: nn.Module, names: Iterable[str], **request: Any
) -> dict[str, FactorizedConv]:
    """Make a factorized layer for each named convolution, by `FactorizedConv.from_conv(**request)`.

    The hook `tenfold_select` may leave a layer out or change its request. The model is not changed:
    `substitute` puts the layers in their places.
    """
    layers = {}
    for name in names:
        conv = model.get_submodule(name)
        wanted, _ = ask_hooks("tenfold_select", name=name, module=conv)
        if wanted is not False:
            changes = wanted if isinstance(wanted, dict) else {}
            layers[name] = FactorizedConv.from_conv(conv, **{**request, **changes})
    return layers


def substitute(model: nn.Module, layers: dict[str, FactorizedConv]) -> nn.Module:
    """Put `layers` in the places of `model` that their names say, and return it."""
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
    return model
