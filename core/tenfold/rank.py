"""What a user may ask for as `rank`, and how it is spent on the bonds of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from numbers import Integral, Real
from typing import Any

from .contraction import Modes
from .network import IN, OUT, spatial_modes

Sizes = dict[str, int]


def spend(
    factors: Sequence[Modes], bonds: Modes, shape: Sequence[int], rank: Any
) -> tuple[int, ...]:
    """Turn a request into bond sizes, clipped to what is exact and never below 1.

    `shape` is the kernel's, `(out, in, *k)`. An int gives every bond that size, a tuple each bond
    its own. `"same"` and a float are budgets, as a fraction of the kernel's numel: the bonds grow
    together, in proportion to their exact sizes, then one by one while the budget holds; every
    bond is 1 where nothing fits.

    Raises `ValueError` or `TypeError` where `rank` is none of these.
    """
    sizes = dict(zip((OUT, IN, *spatial_modes(len(shape) - 2)), shape, strict=True))
    most = exact(factors, bonds, sizes)
    if isinstance(rank, str) and rank == "same":
        return _fit(factors, bonds, sizes, most, prod(shape))
    if isinstance(rank, bool | str):
        raise TypeError(f"rank={rank!r} must be {WANTED}")
    if isinstance(rank, Integral):
        asked = [check_size(rank)] * len(bonds)
        return _values(clip(factors, bonds, sizes, dict(zip(bonds, asked, strict=True))))
    if isinstance(rank, Real):
        if not 0 < float(rank) < float("inf"):
            raise ValueError(f"rank={rank!r} as a fraction of the parameters must be positive")
        return _fit(factors, bonds, sizes, most, int(float(rank) * prod(shape) * (1 + 1e-12)))
    if isinstance(rank, Sequence):
        if len(rank) != len(bonds):
            raise ValueError(
                f"rank={tuple(rank)!r} has {len(rank)} numbers; a kernel of order "
                f"{len(shape) - 2} takes {len(bonds)}, for ({', '.join(bonds)})"
            )
        asked = [check_size(one) for one in rank]
        return _values(clip(factors, bonds, sizes, dict(zip(bonds, asked, strict=True))))
    raise TypeError(f"rank={rank!r} must be {WANTED}")


WANTED = "'same', a float (fraction of the parameters), an int or a tuple of ints"


def check_size(value: Any) -> int:
    """One rank as an int; refuses what is no positive integer."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"rank={value!r} must be an int")
    if value < 1:
        raise ValueError(f"rank={value!r} must be at least 1")
    return int(value)


def exact(factors: Sequence[Modes], bonds: Modes, sizes: Mapping[str, int]) -> Sizes:
    """The bond sizes at which the network can hold every kernel."""
    return clip(factors, bonds, sizes, dict.fromkeys(bonds, prod(sizes.values())))


def clip(factors: Sequence[Modes], bonds: Modes, sizes: Mapping[str, int], asked: Sizes) -> Sizes:
    """Lower each bond to the least size that holds as much.

    No bond needs more than the kernel's numel without its largest mode (a sum of that many outer
    products is any tensor: Kolda and Bader 2009, section 3.1), nor a bond of two factors more than
    the product of either one's other modes (the rank of a matrix).
    """
    limit = prod(sizes.values()) // max(sizes.values())
    size = {**sizes, **{bond: min(value, limit) for bond, value in asked.items()}}
    owners = {bond: [factor for factor in factors if bond in factor] for bond in bonds}
    changed = True
    while changed:
        changed = False
        for bond in bonds:
            sides = [prod(size[mode] for mode in f if mode != bond) for f in owners[bond]]
            if len(sides) == 2 and size[bond] > min(sides):
                size[bond], changed = min(sides), True
    return {bond: size[bond] for bond in bonds}


def _fit(
    factors: Sequence[Modes], bonds: Modes, sizes: Mapping[str, int], most: Sizes, budget: int
) -> tuple[int, ...]:
    def cost(ranks: Sizes) -> int:
        size = {**sizes, **ranks}
        return sum(prod(size[mode] for mode in factor) for factor in factors)

    def scaled(fraction: float) -> Sizes:
        asked = {bond: max(1, int(fraction * most[bond])) for bond in bonds}
        return clip(factors, bonds, sizes, asked)

    low, high = 0.0, 1.0
    if cost(scaled(high)) <= budget:
        low = high
    while high - low > 0.5 / max(most.values(), default=1):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(scaled(middle)) <= budget else (low, middle)
    ranks = scaled(low)
    grew = True
    while grew:
        grew = False
        for bond in sorted(bonds, key=lambda bond: ranks[bond] / most[bond]):
            more = clip(factors, bonds, sizes, {**ranks, bond: ranks[bond] + 1})
            if more != ranks and cost(more) <= budget:
                ranks, grew = more, True
                break
    return _values(ranks)


def _values(ranks: Sizes) -> tuple[int, ...]:
    return tuple(ranks.values())
