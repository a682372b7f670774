"""In which order an activation's modes lie in memory between two stages.

A convolution wants them sorted: those passed on go to its batch. A linear layer's stage is a matrix
product, which also has columns: modes that come last stay last, and nothing is moved where those of
the product are neighbours. So a tensor train meets its input without a copy (the core that is
applied stands on the left, Oseledets 2011, doi:10.1137/090752286).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, permutations
from math import prod

from ..network import GROUP, KernelNetwork, Modes, Roles

MOST = 6  # orders of what a stage makes that are tried


@dataclass(frozen=True)
class Placed:
    """The modes on the channel axis as one stage finds them, has them, and leaves them."""

    found: Modes
    passed: Modes
    grouped: Modes
    summed: Modes
    after: Modes  # passed too, behind the summed ones
    new: Modes

    @property
    def had(self) -> Modes:
        """In the order that the stage wants."""
        return self.passed + self.grouped + self.summed + self.after

    @property
    def left(self) -> Modes:
        """In the order that the stage gives."""
        return self.passed + self.grouped + self.new + self.after


def place(network: KernelNetwork, plan: Sequence[Roles]) -> list[Placed]:
    """Choose the orders, for stages of these roles: such that the least is moved."""
    if network.order > 0:
        found, carried = [], network.entering
        for index, role in enumerate(plan):
            found.append(_sorted(carried, role, _by_future(role.new, plan[index + 1 :])))
            carried = found[-1].left
        return found
    return list(_least_moved(network, tuple(plan), network.entering)[1])


def _least_moved(
    network: KernelNetwork, plan: tuple[Roles, ...], carried: Modes
) -> tuple[int, tuple[Placed, ...]]:
    """How many elements are moved at the least, and the orders with which."""
    if not plan:
        return _moved(network, carried, network.leaving), ()
    role, rest = plan[0], plan[1:]
    ways = []
    for new in islice(permutations(_by_future(role.new, rest)), MOST):
        placed = _in_place(carried, role, new) or _sorted(carried, role, new)
        later, others = _least_moved(network, rest, placed.left)
        ways.append((_moved(network, carried, placed.had) + later, (placed, *others)))
        if ways[-1][0] == 0:
            break
    return min(ways, key=lambda way: way[0])


def _moved(network: KernelNetwork, found: Modes, wanted: Modes) -> int:
    return 0 if found == wanted else prod(network.sizes[mode] for mode in found)


def _sorted(carried: Modes, role: Roles, new: Modes) -> Placed:
    passed, grouped, summed = (
        tuple(mode for mode in carried if mode in some)
        for some in (role.passed, role.grouped, role.summed)
    )
    return Placed(carried, passed, grouped, summed, (), new)


def _in_place(carried: Modes, role: Roles, new: Modes) -> Placed | None:
    """With nothing moved; None where other modes are between those that the stage has."""
    mine = {*role.grouped, *role.summed}
    start = next((at for at, mode in enumerate(carried) if mode in mine), len(carried))
    stop = start + len(mine)
    middle = start + len(role.grouped)
    grouped, summed = carried[start:middle], carried[middle:stop]
    if {*grouped} != {*role.grouped} or {*summed} != {*role.summed}:
        return None
    return Placed(carried, carried[:start], grouped, summed, carried[stop:], new)


def _by_future(new: Modes, plan: Sequence[Roles]) -> Modes:
    return tuple(sorted(new, key=lambda mode: _future(mode, plan)))


def _future(mode: str, plan: Sequence[Roles]) -> tuple[int, ...]:
    """How later stages want a channel mode placed: 0 passed, 1 grouped, 2 summed and gone."""
    places = []
    for role in plan:
        places.append(0 if mode in role.passed else 1 if mode in role.grouped else 2)
        if places[-1] == 2:
            return tuple(places)
    return (*places, 0 if mode == GROUP else 1)
