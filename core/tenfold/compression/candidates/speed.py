"""How fast a network is, and its layers in their places: measured once, and kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

SPEEDS = "speeds.json"  # the file in a table's directory
Clock = tuple[float, float]  # milliseconds: the least, and the median


class Speed(BaseModel):
    """Milliseconds of a run: `before` of the original, `after` of the compressed network.

    Each in its better memory format; `last` is whether the compressed one has its channels last
    there. `layers` has the same of each layer, all its calls together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: float
    after: float
    layers: dict[str, tuple[Clock, Clock]]
    last: bool = False


def read_speeds(path: Path) -> dict[str, Speed]:
    """What was written; raises `ValueError`, naming the file, where it is damaged."""
    if not path.is_file():
        return {}
    try:
        return _SPEEDS.validate_json(path.read_bytes())
    except ValidationError:
        raise ValueError(f"{path} is damaged: delete it, and it is measured anew") from None


def write_speeds(path: Path, speeds: Mapping[str, Speed]) -> None:
    """Write all of them, or none."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(_SPEEDS.dump_json(dict(speeds), indent=1))
    os.replace(partial, path)


_SPEEDS = TypeAdapter(dict[str, Speed])
