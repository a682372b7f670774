"""What was measured, where, and what came of it: data, and JSON."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..network import Partition
from ..plugin import MemoryFormat, Way


class Situation(BaseModel):
    """All that a measurement depends on; a choice is kept for exactly this."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenfold: str
    torch: str
    device: str  # the name of the processor
    threads: int
    onednn: bool
    dtype: str
    input_shape: tuple[int, ...]
    channels_last: bool  # the input
    factors: tuple[tuple[str, ...], ...]
    sizes: dict[str, int]
    geometry: dict[str, tuple[int, ...] | bool]
    padding: str
    candidates: tuple[Way, ...]
    runtime: str = "eager"
    engine: str = ""  # the version of what the runtime runs

    @property
    def digest(self) -> str:
        """A name for it, fit for a file."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:24]


class Measured(BaseModel):
    """One way of running a layer, and the median of its milliseconds; see `Decision`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: Partition
    implementation: str | None = None
    memory_format: MemoryFormat | None
    packed: bool
    milliseconds: float = Field(gt=0)


class Decision(BaseModel):
    """The way a layer runs, and why: what each candidate took, and in which situation.

    As JSON data by `model_dump(mode="json")`; `FactorizedConv.fix_plan` takes either. Only
    `partition` must be given, or instead of it the name of an `implementation` whose own code runs;
    see `Fixed` for the other two. `measured` is what each candidate took, in the `situation` of
    device, threads, dtype, shape and runtime. Raises `ValueError` for other data (a
    `pydantic.ValidationError`).

    >>> print(Decision(partition=((1,), (2, 3), (0,))))
    runs (1) (2 3) (0)
    >>> layer = FactorizedConv(8, 8, 3, order=2, rank=4)
    >>> layer.fix_plan({"partition": [[1], [2, 3], [0]]})
    >>> layer.decision.model_dump(mode="json", exclude_defaults=True)
    {'partition': [[1], [2, 3], [0]]}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: Partition = ()
    implementation: str | None = None
    memory_format: MemoryFormat | None = None
    packed: bool = True
    measured: tuple[Measured, ...] = ()
    situation: Situation | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Decision:
        if bool(self.partition) == (self.implementation is not None):
            raise ValueError("give a partition, as [[0], [1, 2]], or the name of an implementation")
        return self

    def __str__(self) -> str:
        """A line for each candidate, the fastest first."""
        lines = [f"runs {way_in_words(self)}"]
        if self.situation is not None:
            here = self.situation
            threads = f"{here.threads} thread{'s' if here.threads > 1 else ''}"
            lines.append(f"measured on {here.input_shape}, {here.dtype}, {here.device}, {threads}")
        for one in sorted(self.measured, key=lambda one: one.milliseconds):
            lines.append(f"{one.milliseconds:10.4f} ms  {way_in_words(one)}")
        return "\n".join(lines)


def way_in_words(way: Decision | Measured) -> str:
    """The groups of a partition, the memory format and what else is not usual, for people."""
    if way.implementation is not None:
        return way.implementation
    groups = " ".join(f"({' '.join(map(str, group))})" for group in way.partition)
    words = ["dense" if len(way.partition) == 1 else groups]
    words += [way.memory_format] if way.memory_format else []
    words += [] if way.packed else ["not packed"]
    return ", ".join(words)
