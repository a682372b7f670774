"""One trained network with what it takes to compress it and to judge the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from torch import Tensor, nn

Batch = tuple[Tensor, ...]  # the arguments of one run


@dataclass(frozen=True)
class Network:
    """A trained network in eval mode.

    `calibration` are inputs without labels; `score` judges a network of the same kind, higher is
    better, on inputs that are not among them. `example_inputs` are what its speed is measured on.
    """

    name: str
    model: nn.Module
    example_inputs: Batch
    calibration: list[Batch]
    score: Callable[[nn.Module], float]
    score_name: str


def installed_file(package: str, path: str) -> Path:
    """A data file of an installed package, which is not imported."""
    return Path(str(distribution(package).locate_file(path)))
