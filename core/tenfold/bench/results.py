"""What was measured, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Row(BaseModel):
    """One layer run one way; of dense rows, `factorization` is None.

    `macs` are those of one run on the layer's input; `milliseconds` and `dense_milliseconds` too,
    measured in turn, both in `memory_format`, in which dense is fastest. `error` is the relative
    error of the kernel, None where no kernel was given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str
    factorization: str | None
    implementation: str | None
    asked: str | None  # the rank that was asked for
    rank: int | tuple[int, ...] | None
    parameters: int
    macs: int | None  # None where the implementation runs code of its own
    memory_format: str
    milliseconds: float
    dense_milliseconds: float
    error: float | None

    @property
    def speedup(self) -> float:
        return self.dense_milliseconds / self.milliseconds


class Results(BaseModel):
    """All rows, and where they were measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    threads: int
    dtype: str
    runtime: str = "eager"
    versions: dict[str, str]
    inputs: dict[str, tuple[int, ...]]  # of each layer
    rows: tuple[Row, ...]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indices of the points of which no other is at least as good in both and better in one.

    Less is better. Of equal points the first counts. In order of the first coordinate.

    >>> pareto_front([(1.0, 3.0), (2.0, 2.0), (2.0, 4.0), (3.0, 1.0), (3.0, 1.0)])
    [0, 1, 3]
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i], i)):
        if not front or points[index][1] < points[front[-1]][1]:
            front.append(index)
    return front
