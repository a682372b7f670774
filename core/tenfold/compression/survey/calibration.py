"""The calibration, parted in what is fitted on and what is judged on."""

from __future__ import annotations

from collections.abc import Sequence

from ..running import Batch, members, size
from .apart import Apart, rows

PARTS = 8  # of a single batch


def divide(
    batches: Sequence[Batch], holdout: float, apart: Apart | None = None
) -> tuple[list[Batch], list[Batch]]:
    """Part the calibration in what is fitted on and what is judged on.

    A single batch is parted along its first axis, where it may be taken `apart`. Where nothing can
    be parted, both are the same.
    """
    batches = list(batches)
    if len(batches) == 1:
        parts = rows(batches[0], PARTS)
        if apart is None or apart.allows([parts]):
            batches = parts
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


def thinned(batches: Sequence[Batch], items: int, apart: Apart) -> list[Batch]:
    """About `items` of the batches' items, or as few as there can be: a first part of some batches.

    Whole batches, where these may not be taken apart.
    """
    there = sum(map(size, batches))
    if there <= items:
        return list(batches)
    step = max(1, len(batches) // items)
    some = list(batches)[::step]
    parts = -(-max(map(size, some)) * len(some) // items)
    found = [rows(batch, parts) for batch in some]
    if apart.allows(found):
        return [first for first, *_ in found]
    return some[:: -(-sum(map(size, some)) // items)]


def pieces(batches: Sequence[Batch], items: int, apart: Apart) -> list[Batch]:
    """The batches in pieces of about so many items; whole, where these may not be taken apart."""
    found = [rows(batch, max(1, round(size(batch) / items))) for batch in batches]
    return [one for part in found for one in part] if apart.allows(found) else [*batches]
