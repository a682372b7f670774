"""The sizes at which bonds are exact, and to which they are lowered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from math import prod

from .contraction import Modes
from .network import IN, OUT, is_spatial

Sizes = dict[str, int]


def exact(factors: Sequence[Modes], bonds: Modes, sizes: Mapping[str, int]) -> Sizes:
    """The bond sizes at which the network can hold every kernel."""
    return clip(factors, bonds, sizes, dict.fromkeys(bonds, prod(sizes.values())))


def clip(factors: Sequence[Modes], bonds: Modes, sizes: Mapping[str, int], asked: Sizes) -> Sizes:
    """Lower each bond to the least size that holds as much.

    A bond of many factors needs no more than the kernel's numel without its largest mode (a sum of
    that many outer products is any tensor: Kolda and Bader 2009, section 3.1). A bond of two needs
    no more than the rank of the kernel unfolded in some way, nor than the product of either
    factor's other modes (the rank of a matrix; of many, for modes of both).
    """
    owners = {bond: [factor for factor in factors if bond in factor] for bond in bonds}
    opens = tuple(sizes[m] for m in sizes if m in (OUT, IN) or is_spatial(m))
    many, two = _limits(opens)
    limits = {bond: two if len(owners[bond]) == 2 else many for bond in bonds}
    size = {**sizes, **{bond: min(value, limits[bond]) for bond, value in asked.items()}}
    changed = True
    while changed:
        changed = False
        for bond in bonds:
            shared = set(owners[bond][0]).intersection(*owners[bond])
            sides = [prod(size[mode] for mode in f if mode not in shared) for f in owners[bond]]
            if len(sides) == 2 and size[bond] > min(sides):
                size[bond], changed = min(sides), True
    return {bond: size[bond] for bond in bonds}


@lru_cache(maxsize=64)
def _limits(sizes: tuple[int, ...]) -> tuple[int, int]:
    """The largest CP rank, and the largest rank of an unfolding, of a tensor of these sizes."""
    numel = prod(sizes)
    sides = [prod(side) for n in range(len(sizes)) for side in combinations(sizes, n)]
    return numel // max(sizes), max(min(side, numel // side) for side in sides)
