"""A whole model without tenfold."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn

from ..arguments import check_model
from ..layer import factorized_layers, plain_form

M = TypeVar("M", bound=nn.Module)


def to_plain(model: M) -> M | nn.Module:
    """A copy of `model` with each `FactorizedConv` as plain `torch.nn` modules; needs no tenfold.

    A layer becomes what `to_sequential` gives, or its dense convolution (`to_conv`) where its
    implementation runs code of its own and spells no modules. A layer in several places stays one
    layer, and layers that are tied are apart. Hooks on factorized layers are not kept.

    Raises `ValueError`, naming the layer, above order 3, where `torch.nn` has no convolution, and
    `TypeError` for what is no model.

    >>> model = nn.Sequential(FactorizedConv(8, 8, (3, 3), rank=4, factorization="tucker"))
    >>> [type(module).__name__ for module in to_plain(model)[0]]
    ['Conv2d', 'Conv2d', 'Conv2d']
    """
    check_model("model", model)
    found = factorized_layers(model)
    made = {id(module): _plain(name, layer) for name, (module, layer) in found.items()}
    if id(model) in made:
        return made[id(model)]
    # deepcopy puts what the memo has for an object wherever the object is
    return copy.deepcopy(model, memo=made)


def _plain(name: str, layer: Any) -> nn.Module:
    try:
        return plain_form(layer)
    except ValueError as fault:
        raise ValueError(f"layer {name!r}: {fault}") from None
