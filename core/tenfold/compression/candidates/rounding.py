"""A layer that is factorized already, with smaller bonds."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from torch import Tensor

from ...layer import FactorizedConv
from ...network import Multiple
from ..moments import Norm
from ..survey import Layer
from .fitting import Fitted
from .turned_sum import turned_for

FRACTIONS = tuple(0.85 * 0.75**step for step in range(9))  # of the parameters that there are


def roundings(
    layer: Layer,
    conv: FactorizedConv,
    kernel: Tensor,  # (out, in/groups, *k), of its factors
    norm: Norm,
    base: int,
) -> Iterator[Fitted]:
    """The layer's own network with smaller bonds, by its factors alone, in the layer's norm."""
    weight, rank = conv.weight, layer.request.get("rank")
    factors = [factor.detach() for factor in weight.current()]
    turned = turned_for(weight.choice.plugin, kernel, norm, layer.config.groups)
    dense = prod(weight.shape)
    budgets = [Multiple(base, of=part * weight.network.numel / dense) for part in FRACTIONS]
    seen = {weight.network.shapes}
    for asked in budgets if rank is None else [rank]:
        network, found = turned.rounded(weight.network, factors, asked)
        if network.shapes not in seen and network.numel < weight.network.numel:
            seen.add(network.shapes)
            yield Fitted(weight.choice, turned, network, found)
