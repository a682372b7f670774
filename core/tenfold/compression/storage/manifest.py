"""What `tenfold.json` says of a saved network: everything but the numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ...layer import ConvConfig
from ...tuning import Decision
from ..request import first_fault

FORMAT = 1
MANIFEST, WEIGHTS, REPORT = "tenfold.json", "model.safetensors", "report.json"
PLAIN = "plain.pt2"
LARGEST = 2**26  # bytes of a manifest or a report
PER_AXIS = ("kernel_size", "stride", "padding", "dilation", "output_padding")
Rank = Annotated[int, Field(ge=1, strict=True)]


class Entry(BaseModel):
    """One factorized layer: what it takes to build it without its numbers.

    `names` are all the places of the model that hold it. `decision` is how it runs, where that
    was measured or fixed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = Field(min_length=1)
    factorization: str
    implementation: str
    rank: Rank | Annotated[tuple[Rank, ...], Field(max_length=64)]
    config: ConvConfig
    channels_last: bool
    dtype: Literal["C128", "C64", "F64", "F32", "F16", "BF16"]
    decision: Decision | None = None

    @field_validator("config", mode="before")
    @classmethod
    def _arguments(cls, value: object) -> object:
        """The arguments as `ConvConfig` holds them, one number for each of a few axes."""
        if not isinstance(value, dict):
            return value
        order = value.get("order")
        for name in PER_AXIS:
            given = value.get(name)
            if not isinstance(given, str) and (not isinstance(given, list) or len(given) != order):
                raise ValueError(f"{name} must be a list of {order} numbers")
        return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}


class JointEntry(BaseModel):
    """Layers that share one network of `n_layers`; the first of them holds the numbers of all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_layers: Annotated[tuple[Rank, ...], Field(min_length=1, max_length=8)]
    layers: tuple[Entry, ...] = Field(min_length=1)


class Manifest(BaseModel):
    """The whole file. `aliases` are the tensors that are another one, under a second name.

    `plugins` are the distribution and version of each plugin, by its kind and name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["tenfold"] = "tenfold"
    version: int = FORMAT
    layers: tuple[Entry, ...]
    joint: tuple[JointEntry, ...] = ()
    aliases: dict[str, str] = {}
    weights_bytes: int
    weights_sha256: str
    written_with: dict[str, str]
    plugins: dict[str, str] = {}

    @property
    def all_layers(self) -> tuple[Entry, ...]:
        """Those that share a network too."""
        return (*self.layers, *(layer for one in self.joint for layer in one.layers))

    @model_validator(mode="after")
    def _agree(self) -> Manifest:
        names = [name for layer in self.all_layers for name in layer.names]
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise ValueError(f"layer {min(twice)!r} is there twice")
        return self


class _Head(BaseModel):
    """The two fields that say whether the others can be read."""

    format: Literal["tenfold"]
    version: int


def read_manifest(directory: Path) -> Manifest:
    """Read `tenfold.json`.

    Raises `FileNotFoundError` where there is none, and `ValueError`, naming the file and the field,
    where it is damaged, foreign or of another version.
    """
    path = directory / MANIFEST
    text = read_bounded(path)
    try:
        head = _Head.model_validate_json(text)
    except ValidationError as fault:
        reason = first_fault(fault)
        raise ValueError(f"{path} is not a network that tenfold saved: {reason}") from None
    if head.version != FORMAT:
        raise ValueError(
            f"{path} has version {head.version}; this tenfold reads {FORMAT}: "
            f"{'upgrade tenfold' if head.version > FORMAT else 'save the network again'}"
        )
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as fault:
        raise ValueError(f"{path} is damaged: {first_fault(fault)}") from None


def read_bounded(path: Path) -> bytes:
    """The bytes of a small file; `FileNotFoundError` or `ValueError`, naming it, without them."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: give a directory that tenfold.save has written"
        )
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size} bytes: it is not one of tenfold's")
    return path.read_bytes()
