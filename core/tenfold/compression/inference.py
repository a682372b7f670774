"""Run a network without changing it, and compare what two runs give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Batch = Any  # a tensor, a tuple or list of arguments, or a mapping of keywords


def call(model: nn.Module, batch: Batch) -> Any:
    """Run `model` on a batch: a tensor, its arguments, or its keywords."""
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, tuple | list):
        return model(*batch)
    return model(batch)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every module's training flag is as before afterwards."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def tensors(output: Any) -> list[Tensor]:
    """The floating-point tensors in what a network returned, in a fixed order.

    Raises `TypeError` where there is none.
    """
    found = list(_walk(output))
    if not found:
        raise TypeError(
            f"the model returned {type(output).__name__} without a floating-point tensor: its "
            "change cannot be measured; wrap it in a module that returns tensors"
        )
    return found


def _walk(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _walk(value)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for value in output:
            yield from _walk(value)


class Difference:
    """The relative change of a network's outputs, summed over batches.

    With several output tensors it is the root of the mean of their squares, each relative to its
    own norm.
    """

    def __init__(self) -> None:
        self._sums: list[list[float]] = []  # of each output: the gap's square, its own

    def add(self, reference: Sequence[Tensor], output: Sequence[Tensor]) -> None:
        """Add one batch's outputs."""
        while len(self._sums) < len(reference):
            self._sums.append([0.0, 0.0])
        for sums, one, other in zip(self._sums, reference, output, strict=True):
            wide = one.double()
            sums[0] += float((wide - other.double()).square().sum())
            sums[1] += float(wide.square().sum())

    @property
    def relative(self) -> float:
        """`‖y − ŷ‖ / ‖y‖`; infinite where the output is not finite."""
        squares = [gap / norm if norm else gap for gap, norm in self._sums]
        mean = sum(squares) / max(1, len(squares))
        return mean**0.5 if mean == mean else float("inf")


def outputs(model: nn.Module, batches: Sequence[Batch]) -> list[list[Tensor]]:
    """What the model returns for each batch, in eval mode."""
    with evaluating(model):
        return [tensors(call(model, batch)) for batch in batches]


def change(
    model: nn.Module, batches: Sequence[Batch], references: Sequence[Sequence[Tensor]]
) -> float:
    """The relative change of the model's outputs from `references`."""
    found = Difference()
    with evaluating(model):
        for batch, reference in zip(batches, references, strict=True):
            found.add(reference, tensors(call(model, batch)))
    return found.relative
