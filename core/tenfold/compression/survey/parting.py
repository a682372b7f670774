"""Layers in order, parted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")


def neighbours(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Items in order, in at most so many parts of nearly the same length."""
    count = min(most, len(items))
    ends = [len(items) * index // count for index in range(count + 1)] if count else [0]
    return [items[a:b] for a, b in pairwise(ends)]
