"""The sizes at which bonds are exact, and to which they are lowered."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from math import prod

from .contraction import Modes
from .network import is_open

Sizes = dict[str, int]


def exact(
    factors: Sequence[Modes],
    bonds: Modes,
    sizes: Mapping[str, int],
    constants: Collection[int] = (),
) -> Sizes:
    """The bond sizes at which the network can hold every kernel."""
    return clip(factors, bonds, sizes, dict.fromkeys(bonds, prod(sizes.values())), constants)


def clip(
    factors: Sequence[Modes],
    bonds: Modes,
    sizes: Mapping[str, int],
    asked: Sizes,
    constants: Collection[int] = (),
) -> Sizes:
    """Lower each bond to the least size that holds as much.

    A bond of many factors needs no more than the kernel's numel without its largest mode (a sum of
    that many outer products is any tensor: Kolda and Bader 2009, section 3.1). A bond of two needs
    no more than the rank of the kernel unfolded in some way, nor than the product of either
    factor's other modes (the rank of a matrix; of many, for modes of both). Where one is constant
    it alone counts: its columns are what they are.
    """
    many, two = _limits(tuple(sizes[mode] for mode in _opens(tuple(sizes))))
    size, limits = {**sizes, **asked}, _limiting(tuple(factors), bonds, tuple(constants))
    for bond, (sides, free) in limits.items():
        if free:
            size[bond] = min(size[bond], two if sides else many)
    changed = True
    while changed:
        changed = False
        for bond, (sides, _) in limits.items():
            for side in sides:
                most = prod(size[mode] for mode in side)
                if size[bond] > most:
                    size[bond], changed = most, True
    return {bond: size[bond] for bond in bonds}


@lru_cache(maxsize=256)
def _limiting(
    factors: tuple[Modes, ...], bonds: Modes, constants: tuple[int, ...]
) -> dict[str, tuple[list[Modes], bool]]:
    return {bond: limiting(factors, bond, constants) for bond in bonds}


def limiting(
    factors: Sequence[Modes], bond: str, constants: Collection[int]
) -> tuple[list[Modes], bool]:
    """The modes whose product a bond needs not exceed, of each such factor; and whether it is free.

    It is where it can turn: where no factor of its is constant.
    """
    owners = [index for index, factor in enumerate(factors) if bond in factor]
    shared = set(factors[owners[0]]).intersection(*(factors[index] for index in owners))
    fixed = [index for index in owners if index in constants]
    limits = fixed or (owners if len(owners) == 2 else [])
    return [tuple(m for m in factors[i] if m not in shared) for i in limits], not fixed


@lru_cache(maxsize=256)
def _opens(modes: Modes) -> Modes:
    return tuple(filter(is_open, modes))


@lru_cache(maxsize=64)
def _limits(sizes: tuple[int, ...]) -> tuple[int, int]:
    """The largest CP rank, and the largest rank of an unfolding, of a tensor of these sizes."""
    numel = prod(sizes)
    sides = [prod(side) for n in range(len(sizes)) for side in combinations(sizes, n)]
    return numel // max(sizes), max(min(side, numel // side) for side in sides)
