"""What the command `tenfold compress` was asked for, on its line and in a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from .config import CompressionConfig, plural

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Order(CompressionConfig):
    """A compression with the names of all that it takes: what a TOML file may hold.

    The fields of `CompressionConfig` and, as `module:name`, `model` (a function that returns the
    network), `data` (one that returns batches, or the batches; `inputs` says which part of one the
    network takes, an index or a key), `score` and `evaluate` (functions of a network that return a
    number; the second steers); `weights`, a file of the network's numbers; `input`, shapes of
    random inputs that are measured on instead of the first batch; `without_data`, to go on with
    nothing else; `output`, the directory to write; `table`, where what is measured is kept, by
    default beside it; and `threads`.
    """

    model: str
    output: Path
    weights: Path | None = None
    data: str | None = None
    inputs: int | str | None = None
    without_data: bool = False
    score: str | None = None
    evaluate: str | None = None
    input: tuple[tuple[int, ...], ...] = ()
    table: Path | None = None
    threads: int | None = Field(None, ge=1)

    @property
    def config(self) -> CompressionConfig:
        """What `compress` takes of it."""
        names = CompressionConfig.model_fields.keys() & self.model_fields_set
        return CompressionConfig(**{name: getattr(self, name) for name in names})

    @property
    def measured(self) -> Path:
        """Where what is measured is kept."""
        return self.table or self.output.with_name(f"{self.output.name}.measured")


def read_order(file: Path | None, line: Mapping[str, Any]) -> Order:
    """Join a TOML file and what stands on the line, which comes first.

    Raises `ValueError`, naming the file or the option, its value and the remedy.
    """
    given: dict[str, Any] = {}
    if file is not None:
        try:
            given = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as fault:  # TOML's own are ValueErrors
            raise ValueError(f"{file} cannot be read: {fault}") from None
    asked = {name: value for name, value in line.items() if value not in (None, [])}
    for name in ("model", "output"):
        if name not in asked and name not in given:
            raise ValueError(f"{name} is missing: give it on the line, or in the file of --config")
    found = Order.parse(None, {**plural(given), **asked})
    assert isinstance(found, Order)
    return found
