"""Where factorized layers stand in a model, and what they have in common with dense ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .conv import FactorizedConv
from .joint import JointConv
from .member import Member
from .source import read_kernel


def factorized_layers(model: nn.Module) -> dict[str, tuple[nn.Module, Any]]:
    """By its first name each module that is a factorized layer, and the layer that it runs.

    A joint layer whose other convolutions stand in the model stands for the first of them, which it
    runs where it is called with an input alone.
    """
    modules = dict(model.named_modules())
    tied = [id(one.joint) for one in modules.values() if isinstance(one, Member)]
    found: dict[str, tuple[nn.Module, Any]] = {}
    for name, module in modules.items():
        if isinstance(module, FactorizedConv | Member):
            found[name] = (module, module)
        elif isinstance(module, JointConv) and id(module) in tied:
            found[name] = (module, module[0])
    return found


def kernel_of(layer: Any) -> Tensor:
    """The kernel `(out, in/groups, *k)` of a layer, factorized or not, detached.

    Raises `ValueError` for one of another shape than the layer's own fields say.
    """
    if isinstance(layer, FactorizedConv):
        return layer.weight.to_tensor().detach()
    return read_kernel(layer)
