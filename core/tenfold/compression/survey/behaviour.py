"""Whether what a network gives can be compared, and what it does outside of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..running import Batch, Difference, call, evaluating, hooked, outputs, tensors
from .apart import ALIKE
from .layer import Layer
from .operators import OUTSIDE, Operators


def observe(
    model: nn.Module, example_inputs: Batch, layers: Sequence[Layer], scored: bool = False
) -> tuple[int, tuple[str, ...]]:
    """Run `model` again; returns its multiply-accumulates outside of `layers`, and the operators
    that were not counted.

    Layers that are factorized already, or compute something of their own, get theirs. Raises
    `TypeError` for a network that gives only whole numbers, and `ValueError` for one that keeps
    state between its calls, or whose output's size depends on its values; the first and the last
    may be `scored` by a function of the user's.
    """
    (first,) = outputs(model, [example_inputs])
    if not scored and not any(one.is_floating_point() for one in first):
        kinds = ", ".join(sorted({str(one.dtype) for one in first}))
        raise TypeError(
            f"the model returns {kinds} alone, as argmax gives, whose change says too little: "
            "compress the network that gives scores, or give evaluate="
        )
    seen = Operators()
    second = _watched(model, example_inputs, layers, seen)
    found = Difference()
    found.add(first, second)
    if found.relative >= ALIKE:
        raise ValueError(
            "the model gives another output when it runs on example_inputs again: it keeps state "
            "between its calls, so that no change can be measured; give one that starts anew in "
            "each call, as by a wrapper whose forward resets it first"
        )
    none = any(not one.numel() and one in seen.computed for one in second)
    if seen.sized and not scored and (none or _picks(model, example_inputs, layers, first)):
        raise ValueError(
            "the size of the model's output depends on its values, as where boxes are picked, so "
            "that outputs cannot be compared: compress the network that gives what they are picked "
            "from, or give evaluate="
        )
    for layer in layers:
        if layer.factorized or layer.own:
            layer.counted = seen.macs[layer.name]
    return seen.macs[OUTSIDE], tuple(sorted(seen.uncounted))


def _watched(
    model: nn.Module, batch: Batch, layers: Sequence[Layer], seen: Operators
) -> list[Tensor]:
    """Run a model, telling `seen` where it is."""

    def enter(layer: Layer) -> Any:
        return lambda *_: seen.at.append(layer.name)

    def leave(*_: Any) -> None:
        seen.at.pop()

    handles: list[Any] = []
    for layer in layers:
        module = model.get_submodule(layer.name)
        handles.append(module.register_forward_pre_hook(enter(layer)))
        handles.append(module.register_forward_hook(leave, prepend=True))
    with hooked(handles), evaluating(model), seen:
        return tensors(call(model, batch))


def _picks(
    model: nn.Module, batch: Batch, layers: Sequence[Layer], given: Sequence[Tensor]
) -> bool:
    """Whether the output has fewer items where fewer are picked on the way."""
    try:
        found = _watched(model, batch, layers, Operators(fewer=True))
    except (RuntimeError, ValueError, IndexError):  # they have to fit with others: so they do not
        return False
    return [one.shape for one in found] != [one.shape for one in given]
