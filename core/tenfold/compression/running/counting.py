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
    """How many items a batch has: the length of its first tensor; 1 where that has none.

    Of one argument that is a dict or a tuple that is the length of the first tensor in it, of one
    that is a list, as of images of several sizes, its own.
    """
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 1
    values: Any = batch.values() if isinstance(batch, Mapping) else batch
    if not isinstance(values, Iterable) or isinstance(values, str):
        return 1
    found = (_length(x) for x in values)
    return next((one for one in found if one is not None), 1)


def _length(value: Any) -> int | None:
    """Of one argument; None where it has no tensor."""
    if isinstance(value, Tensor):
        return size(value)
    if isinstance(value, list) and any(isinstance(x, Tensor) for x in value):
        return len(value)
    if isinstance(value, Mapping | tuple | list):
        inner = value.values() if isinstance(value, Mapping) else value
        return next((one for x in inner if (one := _length(x)) is not None), None)
    return None
