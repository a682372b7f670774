"""What a user can do where a layer, or a network, cannot be compressed as it is."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from .layer import Layer


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


def elsewhere(model: nn.Module, layers: Sequence[Layer]) -> str:
    """The modules that have weights and are none of the layers, the largest by name; none but
    embeddings is nothing."""
    known = tuple(layer.name for layer in layers)
    sizes = {
        name: sum(p.numel() for p in module.parameters(recurse=False) if p.dim() > 1)
        for name, module in model.named_modules()
        if name not in known and not isinstance(module, nn.Embedding)
    }
    found = [n for n in sizes if sizes[n] and not n.startswith(tuple(f"{one}." for one in known))]
    if not found:
        return ""
    largest = max(found, key=lambda name: sizes[name])
    kind = type(model.get_submodule(largest)).__name__
    more = len(found) - 1
    several = f" and {more} more module{'s' if more > 1 else ''}" if more else ""
    return f"{largest or 'the model'!r} ({kind}){several}"
