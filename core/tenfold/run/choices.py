"""Ways of running that are worth measuring; of a sum, partitions of all its factors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..network import Geometry, KernelNetwork, KernelSum, Partition, partition_macs
from ..plugin import Implementation, Way


def ways(network: KernelNetwork, plugin: Implementation, geometry: Geometry) -> tuple[Way, ...]:
    """What an implementation would have measured.

    Of a sum: the first of each term together, the second, and so on, where that costs less than one
    dense convolution, which one group of all factors is; and what the implementation plans.
    """
    if not isinstance(network, KernelSum):
        return tuple(plugin.candidates(network, geometry))
    each = [list(plugin.candidates(term, geometry)) for term in network.terms]
    if not all(each):
        return ()
    parted = [[one for one in some if not isinstance(one, str)] for some in each]
    names = [one for one in each[0] if isinstance(one, str) and all(one in some for some in each)]
    rows = [
        [some[min(place, len(some) - 1)] for some in parted]
        for place in range(max(map(len, parted)))
    ]
    dense = partition_macs(network.dense, ((0,),), geometry) or 0.0
    cheap = [row for row in rows if is_whole(row) or _macs(network, row, geometry) < dense]
    plans = [plugin.plan(term, geometry) for term in network.terms]
    default = [plan for plan in plans if not callable(plan)]
    chosen = [*cheap, default] if len(default) == len(plans) else cheap
    return tuple(dict.fromkeys([*(joined(network, row) for row in chosen), *names]))


def joined(network: KernelSum, partitions: Sequence[Partition]) -> Partition:
    """A partition of all factors of a sum, from one for each term."""
    if is_whole(partitions):
        return (tuple(range(len(network.factors))),)
    found: list[tuple[int, ...]] = []
    start = 0
    for term, partition in zip(network.terms, partitions, strict=True):
        found += [tuple(start + index for index in group) for group in partition]
        start += len(term.factors)
    return tuple(found)


def parted(network: KernelSum, partition: Partition) -> list[Partition]:
    """The partition of each term, from one of all factors.

    Raises `ValueError` where a group, but the one of all, has factors of several terms.
    """
    if len(partition) == 1:
        return [(tuple(range(len(term.factors))),) for term in network.terms]
    found: list[Partition] = []
    start = 0
    for term in network.terms:
        stop = start + len(term.factors)
        groups = [group for group in partition if any(start <= index < stop for index in group)]
        if any(not start <= index < stop for group in groups for index in group):
            raise ValueError(f"partition {partition} has a group of factors of several terms")
        found.append(tuple(tuple(index - start for index in group) for group in groups))
        start = stop
    return found


def is_whole(partitions: Iterable[Partition]) -> bool:
    """Whether each has all factors in one group."""
    return all(len(partition) == 1 for partition in partitions)


def _macs(network: KernelSum, partitions: Sequence[Partition], geometry: Geometry) -> float:
    pairs = zip(network.terms, partitions, strict=True)
    return sum(partition_macs(term, one, geometry) or float("inf") for term, one in pairs)
