"""What a compression did, layer by layer and in all, as data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer, ValidationError

from .validation import first_fault

if TYPE_CHECKING:
    from rich.table import Table

Metric = Literal["parameters", "macs", "latency"]
Objective = Literal["measured", "energy", "uniform"]


def _in_json(value: float) -> float | str:
    """Infinity is no number of JSON's; as a string it is read back."""
    return value if math.isfinite(value) else str(value)


Number = Annotated[float, PlainSerializer(_in_json, when_used="json")]


class Change(BaseModel):
    """A number of the original network, and the same of the compressed one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: Number
    after: Number


class LayerReport(BaseModel):
    """One layer. Parameters are its own; MACs and milliseconds those of all its calls.

    `error` is the relative change of the network's output when this layer alone is replaced,
    `output_error` that of the layer's own output, `kernel_error` that of its kernel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str  # the class of the original, as "Conv2d"
    shape: tuple[int, ...]  # of the kernel, (out, in/groups, *k)
    calls: int  # in one run of the network
    factorization: str | None  # None where it stays dense
    implementation: str | None
    rank: int | tuple[int, ...] | None
    parameters: Change
    macs: Change
    milliseconds: Change | None  # None where latency was not measured
    kernel_error: Number
    output_error: Number
    error: Number
    reason: str | None = None  # why it was not to be compressed


class Point(BaseModel):
    """One budget of several, and what it buys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: Number
    parameters: Number
    macs: Number
    milliseconds: Number | None
    error: Number
    score: Number | None


class Report(BaseModel):
    """A whole compression.

    `error` is the relative change of the network's output on held-out inputs; `score` what the
    user's `evaluate` gave. `curve` has a point for each budget that was asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Metric
    objective: Objective
    budget: Number | None  # None where an error or a score was asked for
    layers: tuple[LayerReport, ...]
    parameters: Change
    macs: Change
    milliseconds: Change | None
    error: Number
    score: Change | None
    curve: tuple[Point, ...] = ()
    threads: int
    versions: dict[str, str]

    def to_json(self) -> str:
        """All of it as JSON, which `from_json` reads."""
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote; raises `ValueError`, naming the field, for anything else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as fault:
            raise ValueError(first_fault(fault)) from None

    def table(self) -> Table:
        """The factorized layers and the totals, for a terminal of 80 columns."""
        from .terminal import table

        return table(self)

    def plot(self, path: str | Path) -> None:
        """Draw where the budget went, and error against budget, to a PNG, PDF or SVG file.

        Raises `ValueError` for another kind of file, and `ImportError` without matplotlib.
        """
        from .chart import plot

        plot(self, Path(path))

    def to_html(self, path: str | Path | None = None) -> str:
        """One page with everything on it, which loads nothing; written to `path` if given.

        Raises `ImportError` without matplotlib.
        """
        from .page import page

        text = page(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text
