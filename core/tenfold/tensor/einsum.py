"""Contract factorized tensors with others, factor by factor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, TypeVar

from torch import Tensor

from ..network import Modes
from .planning import contracted
from .term import Term

T = TypeVar("T")
Names = Sequence[str]


def contract(letters: Sequence[Names], operands: Sequence[Any], output: Names) -> Any:
    """Sum over the names that are not in `output`, of the products of operands.

    An operand is a tensor or the terms of a factorized one, and `letters` has a name for each of
    its axes. The factors of all are contracted in the cheapest order, so that a factorized one is
    made dense only where that is it. Returns None where axes of one name differ in size, or are
    split apart in different ways.
    """
    apart = [[one] if isinstance(one, Tensor) else list(one) for one in operands]
    found = None
    for some in product(*apart):
        one = _contracted(letters, some, output)
        if one is None:
            return None
        found = one if found is None else found + one
    return found


def _contracted(
    letters: Sequence[Names], operands: Sequence[Tensor | Term], output: Names
) -> Tensor | None:
    if any(len(some) != len(one.shape) for some, one in zip(letters, operands, strict=True)):
        return None
    pairs = list(zip(letters, operands, strict=True))
    sizes = _agreed(
        (name, s) for some, one in pairs for name, s in zip(some, one.shape, strict=True)
    )
    splits = _agreed(
        (name, split)
        for some, one in pairs
        if isinstance(one, Term)
        for name, split in zip(some, _splits(one), strict=True)
    )
    if sizes is None or splits is None or not set(output) <= set(sizes):
        return None
    named = [_named(one, some, splits, f"{place}:") for place, (some, one) in enumerate(pairs)]
    modes = [some for term in named for some in term.modes]
    tensors = [one for term in named for one in term.tensors]
    whole = tuple(part for name in output for part in _parts(name, splits))
    return contracted(modes, tensors, whole).reshape([sizes[name] for name in output])


def _agreed(pairs: Iterable[tuple[str, T]]) -> dict[str, T] | None:
    """What each name stands for; None where one stands for two things."""
    found: dict[str, T] = {}
    for name, one in pairs:
        if found.setdefault(name, one) != one:
            return None
    return found


def _splits(term: Term) -> list[tuple[int, ...]]:
    """The sizes of the modes of each axis."""
    sizes = term.sizes
    return [tuple(sizes[mode] for mode in axis) for axis in term.axes]


def _parts(name: str, splits: Mapping[str, tuple[int, ...]]) -> Modes:
    """The names of the modes that an axis of this name is split into."""
    split = splits.get(name)
    if split is None or len(split) == 1:
        return (name,)
    return tuple(f"{name}.{place}" for place in range(len(split)))


def _named(
    one: Tensor | Term, names: Names, splits: Mapping[str, tuple[int, ...]], own: str
) -> Term:
    """An operand whose axes have the names that all share; its other modes begin with `own`."""
    apart = [_parts(name, splits) for name in names]
    if isinstance(one, Tensor):
        shapes = [splits.get(name, (size,)) for name, size in zip(names, one.shape, strict=True)]
        modes = tuple(mode for some in apart for mode in some)
        whole = one.reshape([size for shape in shapes for size in shape])
        return Term((modes,), (whole,), ())
    given = {mode: f"{own}{mode}" for modes in one.modes for mode in modes}
    for axis, wanted in zip(one.axes, apart, strict=True):
        given |= zip(axis, wanted, strict=True)
    return one.renamed(given)
