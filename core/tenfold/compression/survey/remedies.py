"""What a user can do where a layer, or a network, cannot be compressed as it is."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrize import is_parametrized


def set_by_hand(model: nn.Module) -> str:
    """That a copy may still call the original, where it may."""
    found = [name for name, module in model.named_modules() if "forward" in vars(module)]
    if not found:
        return ""
    there = f"model.{found[0]}" if found[0] else "the model"
    return (
        f": {there} has a forward that was set on it, as torch.compile(model.forward) may be, and "
        "that calls the original of a copy; set it on what comes of this"
    )


def remedy(module: nn.Module) -> str:
    """The call that makes a computed weight a parameter again."""
    if is_parametrized(module):
        return "torch.nn.utils.parametrize.remove_parametrizations"
    kinds = {type(hook).__name__ for hook in module._forward_pre_hooks.values()}
    known = {"WeightNorm": "remove_weight_norm", "SpectralNorm": "remove_spectral_norm"}
    found = (call for kind, call in known.items() if kind in kinds)
    return f"torch.nn.utils.{next(found, 'prune.remove')}"
