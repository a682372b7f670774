"""What a group of factors does to the activation: the roles of its modes, and what that costs.

A partition is a tuple of groups, each a tuple of factor indices. The input enters with the modes
`group` and `in`; each group is contracted to one kernel and applied by one convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from numbers import Integral
from typing import Any

from .contraction import Modes
from .geometry import Geometry
from .network import KernelNetwork

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
    check_geometry(network, geometry)
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
    check_geometry(network, geometry)
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


def check_geometry(network: Any, geometry: Any) -> None:
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
