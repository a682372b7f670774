"""The calibration, parted in what is fitted on and what is judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..running import Batch, Difference, members, outputs, size

ALIKE = 1e-2  # what rounding may change, in narrow floats and random draws too


def divide(
    batches: Sequence[Batch], holdout: float, model: nn.Module | None = None
) -> tuple[list[Batch], list[Batch]]:
    """Part the calibration in what is fitted on and what is judged on.

    A single batch is parted along its first axis, where `model` gives the same for the parts. Where
    nothing can be parted, both are the same.
    """
    batches = list(batches)
    if len(batches) == 1:
        pieces = _rows(batches[0])
        if model is None or len(pieces) == 1 or _alike(model, batches[0], pieces):
            batches = pieces
    held = round(len(batches) * holdout) or 1
    if len(batches) == 1:
        return batches, batches
    step = len(batches) / held  # spread over the whole, which may be sorted
    judged = {int((index + 0.5) * step) for index in range(held)}
    fitted = [batch for index, batch in enumerate(batches) if index not in judged]
    return fitted, [batches[index] for index in sorted(judged)]


def filled(batches: Sequence[Batch]) -> list[Batch]:
    """The batches that have items: all but those whose first tensor is empty."""
    firsts = [next(members(batch), None) for batch in batches]
    pairs = zip(batches, firsts, strict=True)
    return [batch for batch, first in pairs if first is None or first.numel()]


def thinned(batches: Sequence[Batch], items: int, model: nn.Module) -> list[Batch]:
    """About `items` of the batches' items, or as few as there can be: a first part of some batches.

    Whole batches, where the model does not give the same for parts of one.
    """
    there = sum(map(size, batches))
    if there <= items:
        return list(batches)
    step = max(1, len(batches) // items)
    some = list(batches)[::step]
    parts = -(-max(map(size, some)) * len(some) // items)
    pieces = [_rows(batch, parts) for batch in some]
    if len(pieces[0]) > 1 and _parts(model, pieces[0][:2]):
        return [first for first, *_ in pieces]
    return some[:: -(-sum(map(size, some)) // items)]


def pieces(batches: Sequence[Batch], items: int, model: nn.Module) -> list[Batch]:
    """The batches in pieces of about so many items, or whole ones.

    Whole, where the model does not give the same for parts of one.
    """
    found = [_rows(batch, max(1, round(size(batch) / items))) for batch in batches]
    longest = max(found, key=len)
    whole = batches[found.index(longest)]
    return [one for part in found for one in part] if _alike(model, whole, longest) else [*batches]


def _rows(batch: Batch, most: int = 8) -> list[Batch]:
    """Part one batch of tensors, arguments or keywords, in up to `most`.

    What is no tensor goes with each part.
    """
    if isinstance(batch, Tensor):
        return [part for (part,) in _rows((batch,), most)]
    if not isinstance(batch, Mapping | tuple | list):
        return [batch]
    names = list(batch) if isinstance(batch, Mapping) else []
    values = list(batch.values() if isinstance(batch, Mapping) else batch)
    sizes = {len(v) if v.dim() else 0 for v in values if isinstance(v, Tensor)}
    if len(sizes) != 1 or max(sizes) < 2:
        return [batch]
    count = min(most, *sizes)
    apart = [v.tensor_split(count) if isinstance(v, Tensor) else (v,) * count for v in values]
    rows = zip(*apart, strict=True)
    return [dict(zip(names, row, strict=True)) if names else row for row in rows]


def _parts(model: nn.Module, pieces: Sequence[Batch]) -> bool:
    """Whether the model gives for pieces of a batch, together, what it gives for them alone."""
    return _alike(model, _joined(pieces), pieces)


def _joined(pieces: Sequence[Batch]) -> Batch:
    """One batch of pieces that `_rows` made: what is no tensor is as in the first."""
    first = pieces[0]
    if isinstance(first, Tensor):
        return torch.cat(list(pieces))
    names = list(first) if isinstance(first, Mapping) else range(len(first))
    values = [
        torch.cat([piece[name] for piece in pieces])
        if isinstance(first[name], Tensor)
        else first[name]
        for name in names
    ]
    return dict(zip(names, values, strict=True)) if isinstance(first, Mapping) else tuple(values)


def _alike(model: nn.Module, whole: Batch, pieces: Sequence[Batch]) -> bool:
    """Whether the model gives for the pieces, together, what it gives for the whole."""
    try:
        (wanted,) = outputs(model, [whole])
        found = outputs(model, pieces)
        joined = [torch.cat(parts) for parts in zip(*found, strict=True)]
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    difference = Difference()
    difference.add(wanted, joined)
    return difference.relative < ALIKE
