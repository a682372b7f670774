"""How often a network is run: items of batches, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class Runs:
    """How many items of batches went through a network so far."""

    items: int = 0


_COUNTED: ContextVar[Runs | None] = ContextVar("counted", default=None)


@contextmanager
def counted() -> Iterator[Runs]:
    """Count the runs until the end; those within another count do not count outside."""
    runs = Runs()
    token = _COUNTED.set(runs)
    try:
        yield runs
    finally:
        _COUNTED.reset(token)


def count(batch: Any) -> None:
    """Count one run on a batch, where runs are counted."""
    runs = _COUNTED.get()
    if runs is not None:
        runs.items += size(batch)


def size(batch: Any) -> int:
    """How many items a batch has: the length of its first tensor; 1 where that has none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 1
    values: Any = batch.values() if isinstance(batch, Mapping) else batch
    if not isinstance(values, Iterable) or isinstance(values, str):
        return 1
    return next((size(x) for x in values if isinstance(x, Tensor)), 1)
