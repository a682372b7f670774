"""Batch normalisations: their statistics taken anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..measurement import Judge
from ..running import Batch, call, evaluating


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
