"""Batch normalisations: what they make of a layer, and their statistics taken anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..measurement import Judge
from ..running import Batch, call, evaluating


def scaling(norm: Any, groups: int) -> Tensor:
    """`(γ/σ)²` of a normalisation, as a diagonal `(groups, channels/groups, channels/groups)`."""
    variance = norm.running_var
    if variance is None:
        return torch.eye(norm.num_features // groups).expand(groups, -1, -1)
    gain = (variance.detach().double() + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.detach().double()
    return torch.diag_embed(gain.square().reshape(groups, -1))


def recalibrate(model: nn.Module, batches: Sequence[Batch], judge: Judge) -> bool:
    """Average each normalisation's statistics over the batches; whether that was kept.

    It is kept only where the output's change on held-out inputs falls; else they are as before, and
    so are the normalisations' momentum and training flags in any case. Where a normalisation cannot
    average, as of single values, it is not done.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return False
    before = judge.change(model)
    states = [{name: value.clone() for name, value in norm.state_dict().items()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    with evaluating(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over the batches
            norm.training = True
        averaged = True
        try:
            for batch in batches:
                call(model, batch)
        except (ValueError, RuntimeError):
            averaged = False
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    if averaged and judge.change(model) < before:
        for norm, state in zip(norms, states, strict=True):
            if "num_batches_tracked" in state and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(state["num_batches_tracked"])
        return True
    with torch.no_grad():
        for norm, state in zip(norms, states, strict=True):
            norm.load_state_dict(state)
    return False
