"""What a group of factors does to the activation, and the cheapest ordered partition.

A partition is a tuple of groups, each a tuple of factor indices. The input enters with the modes
`group` and `in`; each group is contracted to one kernel and applied by one convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from .contraction import Modes
from .geometry import Geometry
from .network import GROUP, IN, OUT, KernelNetwork

Partition = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Roles:
    """What becomes of each mode when one group of factors is applied.

    `passed`: on the activation, not in the group: the convolution's batch.
    `grouped`: on both and needed later: the convolution's groups.
    `summed`: on both and not needed later: its in-channels.
    `new`: in the group only and needed later: its out-channels.
    `spatial`: convolved over. `positions` is the number of output elements a channel has, relative
    to the whole convolution's (of input elements to the whole's, where transposed).
    """

    passed: Modes
    grouped: Modes
    summed: Modes
    new: Modes
    spatial: Modes
    positions: float = 1.0

    def macs(self, network: KernelNetwork) -> float:
        """Multiply-accumulates for each element of the whole convolution's map."""
        modes = (*self.passed, *self.grouped, *self.summed, *self.new, *self.spatial)
        return self.positions * prod(network.sizes[mode] for mode in modes)


def roles(
    network: KernelNetwork,
    done: Sequence[int],  # the factors already applied
    group: Sequence[int],  # the factors that this stage applies
    geometry: Geometry,
) -> Roles | None:
    """Find what `group` does after `done`; None where it would split a spatial mode.

    It depends on the set of factors done, not on how they were grouped: that is what lets
    `cheapest_partition` be exact.
    """
    rest = [i for i in range(len(network.factors)) if i not in done and i not in group]
    open_ends = [mode for mode in (GROUP, OUT) if mode in network.open_modes]
    seen = dict.fromkeys(mode for i in done for mode in network.factors[i])
    later = set(open_ends).union(*(network.factors[i] for i in rest))
    here = dict.fromkeys(mode for i in group for mode in network.factors[i])
    spatial = tuple(mode for mode in network.spatial if mode in here)
    if any(mode in seen or mode in later for mode in spatial):
        return None
    carried = dict.fromkeys([*(mode for mode in (GROUP, IN) if mode in network.sizes), *seen])
    have = [m for m in carried if m not in network.spatial and (m in here or m in later)]
    axes = range(network.order)
    before = [geometry.stride[a] for a in axes if f"k{a}" in seen]
    after = [geometry.stride[a] for a in axes if f"k{a}" not in seen and f"k{a}" not in here]
    return Roles(
        passed=tuple(m for m in have if m not in here),
        grouped=tuple(m for m in have if m in here and m in later),
        summed=tuple(m for m in have if m in here and m not in later),
        new=tuple(m for m in here if m not in have and m in later),
        spatial=spatial,
        positions=prod(before if geometry.transposed else after),
    )


def cheapest_partition(
    network: KernelNetwork,
    geometry: Geometry,
    allowed: Callable[[tuple[int, ...]], bool],
) -> Partition:
    """Find the ordered partition into allowed groups with the fewest multiply-accumulates.

    Dynamic programming over the sets of factors done: a stage's cost depends on that set and on
    its own group only, so the best way to reach a set extends the best way to reach a smaller one
    (Bellman), and `3**factors` steps stand for all ordered partitions. Of equal costs, the one
    with fewer stages wins, then the first in the factors' order.

    Raises `ValueError` where no partition is allowed.
    """
    every = tuple(range(len(network.factors)))
    groups = [g for size in range(1, len(every) + 1) for g in combinations(every, size)]
    groups = [group for group in groups if allowed(group)]
    best: dict[tuple[int, ...], tuple[float, int, Partition]] = {(): (0.0, 0, ())}
    for done in _subsets(every):
        if done not in best:
            continue
        cost, stages, partition = best[done]
        for group in groups:
            if set(group) & set(done):
                continue
            role = roles(network, done, group, geometry)
            if role is None:
                continue
            reached = tuple(sorted(done + group))
            found = (cost + role.macs(network), stages + 1, (*partition, group))
            if reached not in best or found < best[reached]:
                best[reached] = found
    if every not in best:
        raise ValueError("the factors cannot be applied one group after another")
    return best[every][2]


def _subsets(items: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for size in range(len(items)):
        yield from combinations(items, size)
