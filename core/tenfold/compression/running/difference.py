"""What networks give, compared."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .inference import Batch, call, evaluating, tensors


class Difference:
    """The relative change of a network's outputs, summed over batches.

    With several output tensors it is the root of the mean of their squares, each relative to its
    own norm. Of whole numbers and truth values it is that of their indicators, the root of the
    fraction that differ. Where the reference is infinite, as in a mask, nothing is compared; a
    tensor of another shape counts as wholly changed.
    """

    def __init__(self) -> None:
        self._sums: list[list[float]] = []  # of each output: the gap's square, its own

    def add(self, reference: Sequence[Tensor], output: Sequence[Tensor]) -> None:
        """Add one batch's outputs."""
        while len(self._sums) < len(reference):
            self._sums.append([0.0, 0.0])
        alike = len(reference) == len(output)
        for index, one in enumerate(reference):
            other = output[index] if alike and output[index].shape == one.shape else None
            for place, part in enumerate(_squares(one, other)):
                self._sums[index][place] += part

    @property
    def relative(self) -> float:
        """`‖y − ŷ‖ / ‖y‖`; infinite where the output is not finite."""
        squares = [gap / norm if norm else gap for gap, norm in self._sums]
        mean = sum(squares) / max(1, len(squares))
        return mean**0.5 if mean == mean else float("inf")


def _squares(one: Tensor, other: Tensor | None) -> tuple[float, float]:
    """The squares of the gap between two tensors, and of the first."""
    if not one.is_floating_point():
        return float(one.numel() if other is None else (one != other).sum()), float(one.numel())
    wide = one.double()
    kept = torch.isfinite(wide)
    if not bool(kept.all()):
        wide = wide[kept]
        other = None if other is None else other[kept]
    norm = float(wide.square().sum())
    return (norm if other is None else float((wide - other.double()).square().sum())), norm


def change(
    model: nn.Module, batches: Sequence[Batch], references: Sequence[Sequence[Tensor]]
) -> float:
    """The relative change of the model's outputs from `references`."""
    found = Difference()
    with evaluating(model):
        for batch, reference in zip(batches, references, strict=True):
            found.add(reference, tensors(call(model, batch)))
    return found.relative


def of_their_mean(references: Sequence[Sequence[Tensor]]) -> float | None:
    """The relative change were the mean over all items given for each of them.

    As other items would show it: the mean of few is nearer to themselves. None of fewer than two
    items, and where what is given is not one number or more for each.
    """
    means = []
    for parts in zip(*references, strict=True):
        kinds = {(one.shape[1:], one.dtype) for one in parts if one.dim()}
        if len(kinds) > 1 or not all(one.dim() and one.is_floating_point() for one in parts):
            return None
        count = sum(map(len, parts))
        if count < 2:
            return None
        means.append(torch.stack([one.double().sum(0) for one in parts]).sum(0) / count)
    if not means:
        return None
    found = Difference()
    for batch in references:
        found.add(batch, [mean.expand_as(one) for mean, one in zip(means, batch, strict=True)])
    change = found.relative * (count / (count - 1)) ** 0.5
    return change if change < float("inf") else None
