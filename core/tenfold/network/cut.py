"""What bonds can hold together: cut a network in two, and the kernel unfolded so has a rank.

The rank of the unfolding is at most the product of the bonds that the cut crosses. A tree is cut at
one bond, a ring at two, and a Hadamard product at one bond of each of its networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import prod

from .contraction import Modes
from .network import GROUP, opens_of


@dataclass(frozen=True)
class Cut:
    """The bonds that are cut, and the open modes of each part that falls off.

    Two parts for a bond of two factors; three and more where all of many share one bond. Modes that
    several parts have are in `shared`: there is a cut for each place of theirs.
    """

    bonds: Modes
    parts: tuple[Modes, ...]
    shared: Modes

    def sides(self, sizes: Mapping[str, int]) -> list[int]:
        """The size of each part."""
        return [prod(sizes[mode] for mode in part) for part in self.parts]

    def most(self, sizes: Mapping[str, int]) -> int:
        """The product of the bonds at which they hold every kernel with open modes of `sizes`."""
        sides = self.sides(sizes)
        return prod(sides) // max(sides)


@lru_cache(maxsize=256)
def cuts(factors: tuple[Modes, ...]) -> tuple[Cut, ...]:
    """The cuts that cross the fewest bonds: none crosses all that another does, and more."""
    opens = opens_of(factors)
    found: list[Cut] = []
    bonds = tuple(dict.fromkeys(m for f in factors for m in f if m not in (*opens, GROUP)))
    for count in range(1, len(bonds) + 1):
        within = [set(cut.bonds) for cut in found]
        for crossed in combinations(bonds, count):
            if not any(one.issubset(crossed) for one in within):
                cut = _cut(factors, crossed, opens)
                found += [] if cut is None else [cut]
        if set(bonds) <= {bond for cut in found for bond in cut.bonds}:
            break  # each bond is in one
    return tuple(found)


def _cut(factors: tuple[Modes, ...], crossed: Modes, opens: Modes) -> Cut | None:
    """What falls apart without some bonds; None where nothing does that has open modes."""
    for hold in ({*crossed, GROUP}, {*crossed, GROUP, *opens}):
        parts = [{m for m in part if m in opens} for part in _parts(factors, hold)]
        shared = {m for one, other in combinations(parts, 2) for m in one & other}
        own = [tuple(m for m in opens if m in part - shared) for part in parts]
        left = tuple(part for part in own if part)
        if len(left) > 1:
            return Cut(crossed, left, tuple(m for m in opens if m in shared))
    return None


def _parts(factors: tuple[Modes, ...], without: set[str]) -> list[set[str]]:
    """The modes of each part of a network that only other modes hold together."""
    parts: list[set[str]] = []
    for factor in factors:
        joined = [part for part in parts if (part & set(factor)) - without]
        parts = [part for part in parts if part not in joined]
        parts.append(set(factor).union(*joined))
    return parts
