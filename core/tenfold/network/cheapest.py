"""The cheapest ordered partition of a network's factors into groups, each of one convolution."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import combinations
from math import prod

from .geometry import Geometry
from .network import KernelNetwork
from .partition import Partition, are_neighbours, check_geometry

ELEMENT = 24  # multiply-accumulates that take as long as one moves: tests/benchmarks/traffic.py


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
    check_geometry(network, geometry)
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
