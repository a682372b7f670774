"""Run whichever way is measured fastest on the device at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tenfold import Implementation, implementations
from tenfold.network import Geometry, KernelNetwork, Partition, cheapest_partition, partition_macs

CHEAPEST = 5  # how many are measured, besides the dense kernel and the default
LARGE = 9  # taps from which `fft` may be faster
WHOLE = 7  # stages; of a longer partition only one run of stages is merged at a time


@dataclass(frozen=True, repr=False)
class Auto(Implementation):
    """The dense kernel, or one of the partitions with the fewest multiply-accumulates.

    Until it is measured it runs as `factorized`, or as the dense kernel where that has no
    partition. Candidates are that partition and the cheapest one of all (of a linear layer, of
    single factors), with neighbouring stages merged in every way: four small convolutions of CP,
    say, become a MobileNet block, or two, or one. Those that cost more than the dense kernel are
    left out, but for linear layers. For a kernel of `LARGE` taps on an axis `fft` is one too, and
    so are the implementations named in `others`, where what they plan counts its
    multiply-accumulates.
    """

    apart = True

    others: tuple[str, ...] = ()

    def plan(self, network: KernelNetwork, geometry: Geometry) -> Partition:
        try:
            plan = implementations["factorized"]().plan(network, geometry)
        except ValueError:  # the factors cannot be applied one after another
            return dense(network)
        assert not callable(plan)  # it is a partition
        return plan

    def candidates(self, network: KernelNetwork, geometry: Geometry) -> Sequence[Partition | str]:
        whole = dense(network)
        default = self.plan(network, geometry)
        linear = geometry.order == 0  # of few rows to read the weights takes longest: any may win
        cheapest = cheapest_partition(network, geometry, lambda group: not linear or len(group) < 2)
        costs: dict[Partition, float] = {}
        for partition in {*coarsenings(default), *coarsenings(cheapest)}:
            cost = partition_macs(network, partition, geometry)
            if cost is not None:
                costs[partition] = cost
        most = None if linear else partition_macs(network, whole, geometry)
        worth = [partition for partition, cost in costs.items() if most is None or cost < most]
        worth.sort(key=lambda partition: (costs[partition], len(partition), partition))
        large = ("fft",) if max(geometry.kernel_size, default=1) >= LARGE else ()
        return tuple(dict.fromkeys([whole, *worth[:CHEAPEST], default, *large, *self.others]))

    def __repr__(self) -> str:
        return f"Auto(others={self.others})" if self.others else "Auto()"


def dense(network: KernelNetwork) -> Partition:
    """All factors in one group."""
    return (tuple(range(len(network.factors))),)


def coarsenings(partition: Partition) -> Iterator[Partition]:
    """The partition with neighbouring groups merged, in every way; of a long one, one run each."""
    stages = len(partition)
    if stages <= WHOLE:
        for cuts in range(2 ** (stages - 1)):
            yield merged(partition, [i for i in range(1, stages) if not cuts >> (i - 1) & 1])
        return
    for start in range(stages):
        for stop in range(start + 1, stages + 1):
            yield merged(partition, [i for i in range(1, stages) if not start < i < stop])


def merged(partition: Partition, cuts: Sequence[int]) -> Partition:
    """One group for each run of groups between two cuts."""
    ends = [0, *cuts, len(partition)]
    runs = [partition[a:b] for a, b in pairwise(ends)]
    return tuple(tuple(sorted(i for group in run for i in group)) for run in runs)
