"""Weight decay of kernels, not of their factors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ..arguments import check_kind, check_model, check_number
from ..layer import FactorizedKernel
from ..network import squared_norm


def frobenius_decay(model: nn.Module, weight_decay: float) -> Tensor:
    """`λ/2 Σ ‖K‖²` over the factorized kernels of `model`, to be added to the loss.

    A scalar, contracted from the factors, whatever the format: the kernels are never made. Its
    gradient decays the kernel as `weight_decay` of SGD decays a dense one, where decay of the
    factors would shrink their product faster the more factors there are (Khodak et al. 2021, arXiv
    2105.01029). Give the optimizer `parameter_groups(model, …)`, so that nothing is decayed twice.
    Zero where the model has no factorized layer. Computed in the factors' dtype under autocast too;
    to be called outside of what `torch.compile` compiles, which does not trace the planning.

    Raises `ValueError` or `TypeError` for a `weight_decay` that is no number of at least 0, or no
    model.

    >>> model = nn.Sequential(FactorizedConv(8, 8, 3, order=2, rank=4))
    >>> decay = frobenius_decay(model, weight_decay=1e-2)
    >>> torch.allclose(decay, 0.5e-2 * model[0].weight.to_tensor().square().sum())
    True
    """
    check_decay(weight_decay)
    kernels = kernels_of(model)
    if not kernels:
        return torch.zeros(())
    device = kernels[0].device
    with torch.autocast(device.type, enabled=False):
        norms = [squared_norm(one.network, tuple(one.factors)).to(device) for one in kernels]
    return weight_decay / 2 * torch.stack(norms).sum()


def decoupled_decay(optimizer: Optimizer, model: nn.Module, weight_decay: float) -> RemovableHandle:
    """Have each step of `optimizer` first take `lr · λ · ∇(‖K‖²/2)` off the factors of `model`.

    The decoupled form of `frobenius_decay`, as AdamW's decay is of SGD's (Loshchilov and Hutter
    2019, arXiv 1711.05101): it does not go through the moments. `lr` is that of the factor's group.
    Factors that `optimizer` does not train stay; those that come later, as by `Cuttlefish`, are
    decayed from then. Returns a handle: `.remove()` ends it.

    Raises `ValueError` or `TypeError` for a bad argument, and where `optimizer` trains none of the
    factors.

    >>> model = nn.Sequential(FactorizedConv(8, 8, 3, order=2, rank=4))
    >>> optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay=0.1), lr=1e-3)
    >>> handle = decoupled_decay(optimizer, model, weight_decay=0.1)
    """
    check_decay(weight_decay)
    check_kind("optimizer", optimizer, Optimizer)
    trained = {id(one) for group in optimizer.param_groups for one in group["params"]}
    factors = [one for kernel in kernels_of(model) for one in kernel.parameters()]
    if factors and not any(id(one) in trained for one in factors):
        raise ValueError("optimizer trains no factor of model: make it of parameter_groups(model)")

    def shrink(optimizer: Optimizer, *_: Any) -> None:
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        held = [p for kernel in kernels_of(model) for p in kernel.parameters()]
        factors = [p for p in held if id(p) in rates and p.requires_grad]
        if not factors:
            return
        with torch.enable_grad():
            slopes = torch.autograd.grad(frobenius_decay(model, weight_decay), factors)
        with torch.no_grad():
            for factor, slope in zip(factors, slopes, strict=True):
                factor.sub_(rates[id(factor)] * slope)

    return optimizer.register_step_pre_hook(shrink)


def kernels_of(model: nn.Module) -> list[FactorizedKernel]:
    """The factorized kernels of a model, each once."""
    modules = check_model("model", model).modules()
    return [module for module in modules if isinstance(module, FactorizedKernel)]


def check_decay(weight_decay: Any) -> None:
    """Refuse what is no number of at least 0; raises `ValueError` or `TypeError`."""
    check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay={weight_decay} must be at least 0 and finite")
