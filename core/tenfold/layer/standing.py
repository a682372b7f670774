"""Where factorized layers stand in a model."""

from __future__ import annotations

from typing import Any

from torch import nn

from .conv import FactorizedConv
from .joint import JointConv
from .member import Member


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
