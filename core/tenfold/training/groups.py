"""Which parameters an optimizer decays."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..arguments import check_model
from .decay import check_decay, kernels_of


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer: dense weights with `weight_decay`, everything else with none.

    Factors have none of their own, as `frobenius_decay` or `decoupled_decay` decays their kernels;
    neither have biases, nor what is of one axis, as the weights of norms. Parameters that are not
    trained are left out; a group may be empty. Each parameter is in one group, once.

    Raises `ValueError` or `TypeError` for a `weight_decay` that is no number of at least 0, or no
    model.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), FactorizedConv(8, 8, 3, order=2, rank=4))
    >>> [(len(group["params"]), group["weight_decay"])
    ...  for group in parameter_groups(model, weight_decay=5e-4)]
    [(1, 0.0005), (6, 0.0)]
    """
    check_decay(weight_decay)
    trained = [p for p in check_model("model", model).parameters() if p.requires_grad]
    factors = {id(factor) for kernel in kernels_of(model) for factor in kernel.parameters()}
    dense = [p for p in trained if p.dim() > 1 and id(p) not in factors]
    kept = {id(p) for p in dense}
    return [
        {"params": dense, "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) not in kept], "weight_decay": 0.0},
    ]
