"""What a group of factors does to the activation, and the cheapest ordered partition.

A partition is a tuple of groups, each a tuple of factor indices. The input enters with the modes
`group` and `in`; each group is contracted to one kernel and applied by one convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import combinations, pairwise
from math import prod
from numbers import Integral
from typing import Any

from .contraction import Modes
from .geometry import Geometry
from .network import KernelNetwork

ELEMENT = 24  # multiply-accumulates that take as long as one moves: tests/benchmarks/traffic.py

Partition = tuple[tuple[int, ...], ...]
"""Groups of indices of a network's factors, in the order in which they are applied: each factor
is in one of them. `((1,), (2, 3), (0,))` is three convolutions."""


def is_partition(value: Any) -> bool:
    """Whether it is a sequence of sequences of ints."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    groups = all(isinstance(one, Sequence) and not isinstance(one, str) for one in value)
    return groups and all(isinstance(index, Integral) for group in value for index in group)


@dataclass(frozen=True)
class Roles:
    """What becomes of each mode when one group of factors is applied.

    `passed`: on the activation, not in the group: the convolution's batch.
    `grouped`: on both and needed later: the convolution's groups.
    `summed`: on both and not needed later: its in-channels.
    `new`: in the group only and needed later: its out-channels.
    `spatial`: convolved over. `positions` is the number of output elements a channel has, relative
    to the whole convolution's (of input elements to the whole's, where transposed).

    >>> first = Roles(passed=(), grouped=(), summed=("in",), new=("r",), spatial=("k0",))
    >>> sizes = {"out": 8, "in": 4, "k0": 3, "r": 2}
    >>> first.macs(KernelNetwork((("in", "k0", "r"), ("r", "out")), sizes))
    24.0
    """

    passed: Modes
    grouped: Modes
    summed: Modes
    new: Modes
    spatial: Modes
    positions: float = 1.0

    def macs(self, network: KernelNetwork) -> float:
        """Multiply-accumulates for each element of the whole convolution's map.

        Raises `KeyError` for the roles of another network.
        """
        modes = (*self.passed, *self.grouped, *self.summed, *self.new, *self.spatial)
        return self.positions * prod(network.sizes[mode] for mode in modes)


def roles(
    network: KernelNetwork,
    done: Sequence[int],  # the factors already applied
    group: Sequence[int],  # the factors that this stage applies
    geometry: Geometry,
) -> Roles | None:
    """Find what `group` does after `done`; None where it would split a spatial mode.

    An axis whose taps are several modes is convolved over by several stages, each with its dilation
    (the algorithme à trous, Holschneider et al. 1989); the parts that one stage has must be
    neighbours.
    Both hold indices of the factors of `network`, and `geometry` is the whole convolution's. It
    depends on the set of factors done, not on how they were grouped: that is what lets
    `cheapest_partition` be exact. Raises `IndexError` for an index that names no factor,
    `ValueError` for a geometry of another order, and `TypeError` for what is none of these.

    >>> network = factorizations["spatial_svd"]().network((8, 4, 3, 3), 2)
    >>> geometry = Geometry((3, 3), (1, 1), (0, 0), (1, 1), (0, 0))
    >>> first = roles(network, (), (0,), geometry)
    >>> first.summed, first.new, first.spatial, first.macs(network)
    (('in',), ('r',), ('k0',), 24)
    """
    _check(network, geometry)
    if not is_partition((done, group)):
        raise TypeError(f"done={done!r} and group={group!r} must be tuples of ints")
    rest = [i for i in range(len(network.factors)) if i not in done and i not in group]
    seen = dict.fromkeys(mode for i in done for mode in network.factors[i])
    later = set(network.leaving).union(*(network.factors[i] for i in rest))
    here = dict.fromkeys(mode for i in group for mode in network.factors[i])
    spatial = tuple(mode for mode in network.spatial if mode in here)
    if any(mode in seen or mode in later for mode in spatial):
        return None
    if any(not are_neighbours([mode in here for mode in parts]) for parts in network.axes):
        return None
    carried = dict.fromkeys([*network.entering, *seen])
    have = [m for m in carried if m not in network.spatial and (m in here or m in later)]
    strides = list(zip(geometry.stride, network.axes, strict=True))
    before = [stride for stride, parts in strides if any(mode in seen for mode in parts)]
    after = [stride for stride, parts in strides if any(mode in later for mode in parts)]
    return Roles(
        passed=tuple(m for m in have if m not in here),
        grouped=tuple(m for m in have if m in here and m in later),
        summed=tuple(m for m in have if m in here and m not in later),
        new=tuple(m for m in here if m not in have and m in later),
        spatial=spatial,
        positions=prod(before if geometry.transposed else after),
    )


def partition_macs(
    network: KernelNetwork, partition: Partition, geometry: Geometry
) -> float | None:
    """Multiply-accumulates for each element of the whole convolution's map.

    None where the partition splits a spatial mode, and so cannot run. Raises `IndexError` for a
    factor that the network has not, otherwise as `roles` does, and `TypeError` for no partition.

    >>> network = FactorizedKernel.new((8, 6, 3, 3), rank=4, factorization="tucker").network
    >>> geometry = Geometry((3, 3), (1, 1), (1, 1), (1, 1), (0, 0))
    >>> partition_macs(network, implementations["factorized"]().plan(network, geometry), geometry)
    200.0
    """
    _check(network, geometry)
    if not is_partition(partition):
        raise TypeError(f"partition={partition!r} must be tuples of ints, as ((1,), (0, 2))")
    total = 0.0
    done: tuple[int, ...] = ()
    for group in partition:
        role = roles(network, done, group, geometry)
        if role is None:
            return None
        total += role.macs(network)
        done += tuple(group)
    return total


def cheapest_partition(
    network: KernelNetwork,
    geometry: Geometry,
    allowed: Callable[[tuple[int, ...]], bool],
    traffic: bool = False,
) -> Partition:
    """Find the ordered partition into allowed groups with the fewest multiply-accumulates.

    With `traffic`, each element that a stage takes or gives counts as `ELEMENT` of them, as it
    takes as long: what decides between matrix products as small as those of a linear layer.

    Uniform-cost search (Dijkstra 1959, doi:10.1007/BF01386390) over the sets of factors done. It is
    exact: what a stage costs depends on that set and on its own group only, so the best way to a
    set extends the best way to a smaller one; and no stage costs less than nothing, so when a set
    comes first in the queue, nothing found later reaches it cheaper, and sets that cost more than
    the whole need no look. Of equal costs, the one that multiplies least wins, then that with fewer
    stages, then the first in the factors' order. At most `2**factors` sets are extended. `allowed`
    says of a group, a tuple of indices of the factors of `network`, whether it may be one
    convolution; strides are those of `geometry`.

    Raises `ValueError` where no partition is allowed, and `TypeError` for no function.

    >>> network = factorizations["tucker"]().network((8, 4, 3, 3), 2)
    >>> geometry = Geometry((3, 3), (1, 1), (0, 0), (1, 1), (0, 0))
    >>> cheapest_partition(network, geometry, allowed=lambda group: len(group) == 1)
    ((1,), (2,), (0,))
    """
    _check(network, geometry)
    if not callable(allowed):
        raise TypeError(f"allowed={type(allowed).__name__} must be a function of a group")
    count = len(network.factors)
    costs = StageCosts(network, geometry)
    groups = [g for size in range(1, count + 1) for g in combinations(range(count), size)]
    masks = {group: sum(1 << i for i in group) for group in groups if allowed(group)}
    queue: list[tuple[int, int, int, Partition, int]] = [(0, 0, 0, (), 0)]
    best: dict[int, tuple[int, int, int, Partition]] = {0: (0, 0, 0, ())}
    while queue:
        cost, multiplied, stages, partition, done = heappop(queue)
        if done == (1 << count) - 1:
            return partition
        if (cost, multiplied, stages, partition) != best[done]:
            continue  # a better way there was found since
        for group, mask in masks.items():
            macs = None if mask & done else costs.macs(done, mask)
            if macs is None:
                continue
            moved = ELEMENT * costs.moved(done, mask) if traffic else 0
            found = (cost + macs + moved, multiplied + macs, stages + 1, (*partition, group))
            if (done | mask) not in best or found < best[done | mask]:
                best[done | mask] = found
                heappush(queue, (*found, done | mask))
    raise ValueError("the factors cannot be applied one group after another")


def _check(network: Any, geometry: Any) -> None:
    for name, value, kind in (
        ("network", network, KernelNetwork),
        ("geometry", geometry, Geometry),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{name}={type(value).__name__} must be a {kind.__name__}")
    if geometry.order != network.order:
        raise ValueError(f"geometry has {geometry.order} axes, the network {network.order}")


def are_neighbours(here: Sequence[bool]) -> bool:
    """Whether those that are here stand side by side."""
    return len(here) < 3 or sum(b and not a for a, b in pairwise([False, *here])) <= 1


class StageCosts:
    """`Roles.macs` of every stage of a network, with sets of factors and of modes as bits."""

    def __init__(self, network: KernelNetwork, geometry: Geometry) -> None:
        names = list(network.sizes)
        self.sizes = [network.sizes[name] for name in names]
        bits = {name: 1 << i for i, name in enumerate(names)}
        self.modes = [sum(bits[mode] for mode in factor) for factor in network.factors]
        self.space = sum(bits[mode] for mode in network.spatial)
        self.start = sum(bits[mode] for mode in network.entering)
        self.end = sum(bits[mode] for mode in network.leaving)
        parts = [[bits[mode] for mode in some] for some in network.axes]
        self.parts = [some for some in parts if len(some) > 2]
        self.strides = list(zip(map(sum, parts), geometry.stride, strict=True))
        self.transposed = geometry.transposed
        self._sizes: dict[int, int] = {}
        self._unions: dict[int, int] = {}

    def macs(self, done: int, group: int) -> int | None:
        """What applying `group` after `done` costs; None where it would split a spatial mode."""
        seen, here = self._union(done), self._union(group)
        later = self._union((1 << len(self.modes)) - 1 & ~done & ~group) | self.end
        if here & self.space & (seen | later):
            return None
        if any(not are_neighbours([bool(bit & here) for bit in some]) for some in self.parts):
            return None
        have = (self.start | seen) & ~self.space & (here | later)
        strided = seen if self.transposed else self.space & ~seen & ~here
        return self._strided(strided) * self._size(have | here & later | here & self.space)

    def moved(self, done: int, group: int) -> int:
        """How many elements it takes and gives, for each of the whole convolution's map."""
        return self._carried(done) + self._carried(done | group)

    def _carried(self, done: int) -> int:
        """Those of the activation between some factors and the others."""
        every = (1 << len(self.modes)) - 1
        seen, later = self._union(done), self._union(every & ~done)
        modes = (self.start | seen) & (later | self.end) & ~self.space
        strided = seen if self.transposed else self.space & later
        return self._strided(strided) * self._size(modes)

    def _strided(self, axes: int) -> int:
        """How many times as many positions an activation has that is to be strided over."""
        return prod(stride for bits, stride in self.strides if bits & axes)

    def _union(self, factors: int) -> int:
        """The modes of some factors."""
        found = self._unions.get(factors)
        if found is None:
            found = 0
            for i, modes in enumerate(self.modes):
                if factors >> i & 1:
                    found |= modes
            self._unions[factors] = found
        return found

    def _size(self, modes: int) -> int:
        found = self._sizes.get(modes)
        if found is None:
            found = prod(size for i, size in enumerate(self.sizes) if modes >> i & 1)
            self._sizes[modes] = found
        return found
