"""Which layers are to be compressed: what was asked for, and what hooks say of each."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ...plugin import PluginError, ask_hooks, factorizations, implementations
from .layer import Layer
from .remedies import elsewhere

REQUESTS = ("factorization", "rank", "implementation")  # of a hook


def select(
    model: nn.Module, layers: Sequence[Layer], include: Sequence[Any], exclude: Sequence[Any]
) -> None:
    """Give a reason to each layer that is not to be compressed, and the hook's request to others.

    Raises `ValueError` for a pattern that matches no layer.
    """
    matched = {
        (kind, index): [layer for layer in layers if matches(model, layer, pattern)]
        for kind, patterns in (("include", include), ("exclude", exclude))
        for index, pattern in enumerate(patterns)
    }
    for (kind, index), found in matched.items():
        if not found:
            pattern = (include if kind == "include" else exclude)[index]
            known = ", ".join(layer.name for layer in layers[:8])
            raise ValueError(
                f"{kind}={pattern!r} matches no layer of the model: they are {known}"
                + (", …" if len(layers) > 8 else "")
            )
    wanted = [layer for key, found in matched.items() if key[0] == "include" for layer in found]
    unwanted = [layer for key, found in matched.items() if key[0] == "exclude" for layer in found]
    for layer in layers:
        if layer.reason is None and include and layer not in wanted:
            layer.reason = "not included"
        elif layer.reason is None and layer in unwanted:
            layer.reason = "excluded"
        elif layer.reason is None:
            module = model.get_submodule(layer.name)
            answer, author = ask_hooks("tenfold_select", name=layer.name, module=module)
            if answer is False:
                layer.reason = "left out by a hook"
            elif answer is not None and answer is not True:
                layer.request = _understood(layer, answer, author)


def chosen(model: nn.Module, layers: Sequence[Layer]) -> list[Layer]:
    """Those that may be replaced; `ValueError`, saying why, where there is none."""
    found = [layer for layer in layers if layer.reason is None]
    if not found:
        kept = list(_kept(layers).items())[:8]
        reasons = "; ".join(f"{several(same)}: {why}" for why, same in kept)
        others = elsewhere(model, layers)
        where = (
            f"; there are weights in {others}: let nn.Linear or convolutions that are called have "
            "them"
            if others
            else ""
        )
        raise ValueError(f"there is no layer to compress ({reasons}){where}")
    return found


def staying(model: nn.Module, layers: Sequence[Layer], outside: int) -> str:
    """What of a network costs most and stays as it is, with the reasons; nothing where all may
    change."""
    kept = _kept([layer for layer in layers if layer.macs])
    total = sum(layer.macs for layer in layers) + outside
    shares = {why: sum(one.macs for one in found) / total for why, found in kept.items()}
    costly = sorted(kept, key=lambda why: -shares[why])[:3]
    words = [f"{shares[why]:.0%} in {several(kept[why])}: {why}" for why in costly]
    if outside:
        others = elsewhere(model, layers)
        whose = f", as with the weights of {others}" if others else ""
        words.append(f"{outside / total:.0%} outside of layers, in calls of functions{whose}")
    return "; ".join(words)


def _kept(layers: Sequence[Layer]) -> dict[str, list[Layer]]:
    """Those that stay, by their reasons."""
    kept: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.reason is not None:
            kept.setdefault(layer.reason, []).append(layer)
    return kept


def several(layers: Sequence[Layer]) -> str:
    """The costliest of some layers, and how many more they are."""
    name = max(layers, key=lambda layer: layer.macs).name
    more = len(layers) - 1
    return repr(name) + (f" and {more} more layer{'s' if more > 1 else ''}" if more else "")


def _understood(layer: Layer, answer: Any, author: str) -> dict[str, Any]:
    """The request of a hook, refused where it asks for what a compression decides itself."""
    name = layer.name
    if not isinstance(answer, dict):
        raise TypeError(
            f"{author} answered {answer!r} for layer {name!r}: it must be False, None or a dict"
        )
    for key in answer:
        if layer.factorized and key != "rank":
            raise ValueError(
                f"{author} asks {key}={answer[key]!r} of layer {name!r}, which is factorized "
                "already and stays in its format: put what its to_conv() gives in its place"
            )
        if key not in REQUESTS:
            raise ValueError(
                f"{author} asks {key}={answer[key]!r} of layer {name!r}: a "
                f"compression takes {', '.join(REQUESTS)}"
            )
    for key, registry in (("factorization", factorizations), ("implementation", implementations)):
        try:
            if key in answer:
                registry.choose(answer[key])
        except (ValueError, TypeError, PluginError) as fault:
            raise ValueError(f"{author} asks it of layer {name!r}: {fault}") from fault
    return answer


def matches(model: nn.Module, layer: Layer, pattern: Any) -> bool:
    """Whether a name with `*` and `?`, a class or a function means a layer."""
    module = model.get_submodule(layer.name)
    if isinstance(pattern, str):
        return any(fnmatchcase(name, pattern) for name in layer.names)
    if isinstance(pattern, type):
        return isinstance(module, pattern)
    return bool(pattern(layer.name, module))
