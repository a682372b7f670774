"""Batches in parts, where a network gives for these what it gives for the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..running import Batch, Difference, outputs, size

ALIKE = 1e-2  # what rounding may change, in narrow floats and random draws too
FEW = 4  # items on which it is found out, of the batch that has most


class Apart:
    """Parts batches of a model. Whether it gives the same for parts is found out once.

    For parts of single items, or else of two: some networks drop an axis of size 1.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        self.model, self.largest = model, max(batches, key=size)

    def allows(self, parts: Sequence[Sequence[Batch]]) -> bool:
        """Whether the batches may be taken in such parts."""
        sizes = [size(one) for part in parts if len(part) > 1 for one in part]
        return bool(sizes) and (self._singly or (min(sizes) > 1 and self._by_twos))

    @property
    def few(self) -> Batch:
        """Some items of the batch that has most; all where those may not be taken apart."""
        parts = _split(self.largest, [FEW])
        return parts[0] if size(self.largest) > FEW and self.allows([parts]) else self.largest

    @cached_property
    def _singly(self) -> bool:
        return self._alike([1, 3])

    @cached_property
    def _by_twos(self) -> bool:
        return self._alike([2])

    def _alike(self, at: list[int]) -> bool:
        """Whether the model gives for parts of the first items, together, what it gives for all."""
        few = _split(self.largest, [FEW])[0]
        parts = [part for part in _split(few, at) if size(part)]
        if len(parts) < 2:
            return False
        try:
            (wanted,) = outputs(self.model, [few])
            found = outputs(self.model, parts)
            joined = [torch.cat(pieces) for pieces in zip(*found, strict=True)]
        except Exception:  # it asks for so many items, by an assertion, say
            return False
        difference = Difference()
        difference.add(wanted, joined)
        return difference.relative < ALIKE


def rows(batch: Batch, most: int) -> list[Batch]:
    """Part one batch of tensors, arguments or keywords, in up to `most` of nearly the same size.

    What is no tensor goes with each part.
    """
    count = _items(batch)
    return [batch] if count < 2 else _split(batch, min(most, count))


def _items(batch: Batch) -> int:
    """How many items each tensor of a batch has; 1 where it cannot be parted."""
    values = list(_values(batch))
    sizes = {len(v) if v.dim() else 0 for v in values if isinstance(v, Tensor)}
    return sizes.pop() if len(sizes) == 1 else 1


def _values(batch: Batch) -> Sequence[Any]:
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        return list(batch.values())
    return batch if isinstance(batch, tuple | list) else []


def _split(batch: Batch, at: int | list[int]) -> list[Batch]:
    """A batch in so many parts, or parted before some items."""
    if _items(batch) < 2:
        return [batch]
    if isinstance(batch, Tensor):
        return list(batch.tensor_split(at))
    count = at if isinstance(at, int) else len(at) + 1
    apart = [v.tensor_split(at) if isinstance(v, Tensor) else (v,) * count for v in _values(batch)]
    parts = zip(*apart, strict=True)
    names = list(batch) if isinstance(batch, Mapping) else []
    return [dict(zip(names, part, strict=True)) if names else part for part in parts]
