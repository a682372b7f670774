"""The ranks that a request gives a layer, whatever numbers it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..network import Energy, Error
from ..plugin import Factorization
from ..solve import structure


def needs_values(rank: Any) -> bool:
    """Whether a request asks for what a kernel's values say, as `Error`, or a hook's."""
    named = isinstance(rank, str) and rank != "same"
    return named or isinstance(rank, Error | Energy)


def fixed_rank(factorization: Factorization, shape: Sequence[int], rank: Any, groups: int) -> Any:
    """The ranks of a new layer, so that checkpoints load whatever was drawn; others as asked."""
    if needs_values(rank):
        return rank
    network = structure(factorization, tuple(shape), rank, groups, None)
    return tuple(network.sizes[bond] for bond in network.bonds)
