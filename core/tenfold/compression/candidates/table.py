"""What was measured of each layer: kept on disk as it grows, and used for any budget."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ...arguments import check_path
from ..request import CompressionConfig
from ..running import Batch
from .candidate import Candidate
from .speed import SPEEDS, Speed, read_speeds, write_speeds

FORMAT = "tenfold-table-5"
MATTERS = (
    "objective",
    "metric",
    "bits",
    "factorizations",
    "implementations",
    "multiple",
    "holdout",
    "probes",
    "seed",
)


@dataclass(repr=False)
class LayerTable:
    """The candidates of one layer, the dense one first, and the factors of those decomposed.

    `sensitivity` is what gradients tell of the network's error, over the candidates' weighted one;
    0 where they tell nothing. `items` were run through the network to measure it. `refusals` are
    what could not be run or counted, by format and implementation, and why.
    """

    name: str
    candidates: list[Candidate]
    factors: dict[str, list[Tensor]]
    sensitivity: float = 0.0
    items: int = 0
    refusals: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {len(self.candidates)} candidates>"


@dataclass(repr=False)
class Table:
    """The layers measured so far, of one network, calibration and configuration.

    `fingerprint` tells them from others'; `directory`, if any, holds a safetensors file for each
    layer, with the candidates as JSON in its header. `speeds` are those of networks that were made
    of it, by what they were made of and where they ran: the same choices are not timed twice.
    """

    fingerprint: str
    directory: Path | None = None
    layers: dict[str, LayerTable] = field(default_factory=dict)
    speeds: dict[str, Speed] = field(default_factory=dict)

    def __repr__(self) -> str:
        candidates = sum(len(one.candidates) for one in self.layers.values())
        place = "" if self.directory is None else f", kept in {self.directory}"
        layers = f"{len(self.layers)} layers, {candidates} candidates"
        return f"<{type(self).__name__} of {layers}{place}>"

    @classmethod
    def open(cls, place: Table | str | os.PathLike[str] | None, fingerprint: str) -> Table:
        """Take up a table where it was left, or begin one.

        Raises `ValueError` for one of another network, calibration or configuration, and for a
        damaged file.
        """
        if isinstance(place, Table):
            _agree(place.fingerprint, fingerprint, "the table")
            return place
        if place is None:
            return cls(fingerprint)
        directory = check_path("table", place)
        directory.mkdir(parents=True, exist_ok=True)
        table = cls(fingerprint, directory)
        for path in sorted(directory.glob("*.safetensors")):
            layer = _read(path, fingerprint)
            table.layers[layer.name] = layer
        table.speeds = read_speeds(directory / SPEEDS)
        return table

    def add(self, layer: LayerTable) -> None:
        """Take in one layer, and write it."""
        self.layers[layer.name] = layer
        if self.directory is not None:
            _write(self.directory, layer, self.fingerprint)

    def timed(
        self, choices: Mapping[str, Candidate], place: str, time: Callable[[], Speed]
    ) -> Speed:
        """How fast the network of some choices is in some place: measured where it is not known."""
        key = _key(choices, place)
        if key not in self.speeds:
            self.speeds[key] = time()
            if self.directory is not None:
                write_speeds(self.directory / SPEEDS, self.speeds)
        return self.speeds[key]

    def speed(self, choices: Mapping[str, Candidate], place: str) -> Speed | None:
        """The same where it is known."""
        return self.speeds.get(_key(choices, place))


def _key(choices: Mapping[str, Candidate], place: str) -> str:
    parts = sorted((name, one.implementation, one.rank, one.key) for name, one in choices.items())
    return hashlib.sha256(repr((place, parts)).encode()).hexdigest()[:16]


def _agree(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise ValueError(
            f"{what} was measured with another network, calibration or configuration: give "
            "table= another place, or measure anew"
        )


def _write(directory: Path, layer: LayerTable, fingerprint: str) -> None:
    header = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "name": layer.name,
        "sensitivity": json.dumps(layer.sensitivity),
        "candidates": json.dumps([one.model_dump() for one in layer.candidates]),
        "refusals": json.dumps(layer.refusals),
    }
    stored = {
        f"{key}/{index}": factor.detach().cpu().contiguous()
        for key, factors in layer.factors.items()
        for index, factor in enumerate(factors)
    }
    digest = hashlib.sha256(layer.name.encode()).hexdigest()[:16]
    path = directory / f"{digest}.safetensors"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    save_file(stored, partial, header)
    os.replace(partial, path)


def _read(path: Path, fingerprint: str) -> LayerTable:
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise ValueError(
                    f"{path} is not a table of this version: give table= another place"
                )
            _agree(header["fingerprint"], fingerprint, str(path))
            factors: dict[str, dict[int, Tensor]] = {}
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                key, _, index = name.rpartition("/")
                factors.setdefault(key, {})[int(index)] = file.get_tensor(name)
            found = [Candidate.model_validate(one) for one in json.loads(header["candidates"])]
            ordered = {key: [parts[i] for i in sorted(parts)] for key, parts in factors.items()}
            sensitivity = json.loads(header["sensitivity"])
            refusals = json.loads(header.get("refusals", "{}"))
            return LayerTable(header["name"], found, ordered, sensitivity, refusals=refusals)
    except (SafetensorError, KeyError, json.JSONDecodeError, ValidationError) as fault:
        raise ValueError(
            f"{path} is damaged ({fault}): delete it, and it is measured anew"
        ) from fault


def fingerprint(
    model: nn.Module,
    batches: Sequence[Batch],
    example: Batch,
    config: CompressionConfig,
    evaluate: Any,
) -> str:
    """A digest of all that a table depends on."""
    digest = hashlib.sha256()
    chosen = {name: getattr(config, name) for name in MATTERS}
    if config.metric != "parameters":
        chosen["metric"] = "macs"  # latency is measured anew, on the machine that it is for
    digest.update(repr((FORMAT, sorted(chosen.items()))).encode())
    digest.update(repr(getattr(evaluate, "__qualname__", evaluate is not None)).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(_bytes(tensor))
    for tensor in _tensors(batches):
        digest.update(_bytes(tensor))
    for tensor in _tensors(example):  # MACs are counted on it
        size = tuple(tensor.shape) if isinstance(tensor, Tensor) else tensor
        digest.update(repr(size).encode())
    return digest.hexdigest()


def _bytes(tensor: Any) -> bytes:
    if not isinstance(tensor, Tensor):
        return repr(tensor).encode()
    said = repr((tensor.dtype, tuple(tensor.shape))).encode()
    if not tensor.numel():  # it may have any strides, and no view as bytes then
        return said
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return said + bytes(raw.numpy())


def _tensors(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = [part for pair in sorted(value.items()) for part in pair]
    if isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    else:
        yield value
