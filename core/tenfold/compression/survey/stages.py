"""Layers that may be tied into one network: those of a stage, whose kernels have one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from .layer import Layer
from .selection import matches


def stages(model: nn.Module, layers: Sequence[Layer], patterns: Sequence[Any]) -> list[list[Layer]]:
    """The layers of each pattern, parted by the shape of their kernels; at least two of each.

    Left out are what is not to be compressed, transposed convolutions, and layers of which a hook
    asks something. Raises `ValueError` for a pattern without two layers alike.
    """
    found: list[list[Layer]] = []
    taken: list[Layer] = []
    for pattern in patterns:
        alike: dict[Any, list[Layer]] = {}
        for layer in layers:
            plain = layer.reason is None and not layer.request and not layer.config.transposed
            plain = plain and not layer.factorized
            if plain and layer not in taken and matches(model, layer, pattern):
                weight = model.get_submodule(layer.name).get_parameter("weight")
                kind = (layer.config.shape, layer.config.groups, weight.dtype, weight.device)
                alike.setdefault(kind, []).append(layer)
        several = [group for group in alike.values() if len(group) > 1]
        if not several:
            raise ValueError(
                f"joint={pattern!r} matches no two layers to be compressed whose kernels have one "
                "shape: a network is shared by layers that are alike, as those of one stage"
            )
        found += several
        taken += [layer for group in several for layer in group]
    return found
