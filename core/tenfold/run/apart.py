"""Where merged kernels cost more than they save, fewer factors are merged: in training, where a
kernel is made anew on each call, and of linear layers on few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf, prod

from ..network import ELEMENT, Geometry, KernelNetwork, Partition, cheapest_partition
from .chain import Apart, Chain, lower

WHOLE = 6  # stages of a linear layer, of which neighbours are merged in every way
READ = 8  # multiply-accumulates that take as long as an element of a weight that one reads


def with_apart(
    chain: Chain, network: KernelNetwork, geometry: Geometry, thin: bool = False
) -> Chain:
    """Let `chain` run factor by factor in training where that is cheaper than to merge them first.

    Merging, and moving what is made, costs the same whatever the input, and what it saves grows
    with the input's size: so there is a size below which it does not pay. Of a linear layer there
    are several ways between, each for the inputs of some sizes; and with `thin` the same choice is
    made for eval, where on few rows most of the time goes to reading the weights. Unchanged where
    nothing is merged, or where single factors cannot run.
    """
    linear = geometry.order == 0
    merged = _merging(chain) > 0 and any(len(group) > 1 for group in chain.partition)
    if not merged and not (thin and linear):
        return chain
    others = _others(chain, network, geometry)
    apart = _smaller(chain, others, network, _merging) if merged else None
    few = _smaller(chain, others, network, _reading) if thin and linear else None
    return replace(chain, apart=apart, thin=few)


def _others(chain: Chain, network: KernelNetwork, geometry: Geometry) -> list[Chain]:
    """Single factors, and of a linear layer their neighbours merged, in every way."""
    linear = geometry.order == 0
    try:
        singles = cheapest_partition(network, geometry, lambda group: len(group) == 1, linear)
    except ValueError:  # a spatial mode is in two factors
        return []
    between = _between(singles) if linear else ()
    return [
        replace(lower(network, one, geometry), memory_format=chain.memory_format)
        for one in dict.fromkeys([singles, *between])
        if one != chain.partition
    ]


def _smaller(
    chain: Chain,
    others: Sequence[Chain],
    network: KernelNetwork,
    once: Callable[[Chain], float],
) -> Apart | None:
    """The chain that is the first to be cheaper when inputs become smaller, with its next one."""
    below = {}
    for place, other in enumerate(others):
        saved = once(chain) - once(other)
        if saved > 0:
            more = _each(other, network) - _each(chain, network)
            below[place] = saved / more if more > 0 else inf
    if not below:
        return None
    place = max(below, key=lambda place: (below[place], -once(others[place])))
    other = others[place]
    then = _smaller(other, [one for one in others if one is not other], network, once)
    other = replace(other, apart=then) if once is _merging else replace(other, thin=then)
    channels = network.shape[1] * network.groups
    if not chain.stages[0].geometry.transposed:  # positions are counted at the input
        channels *= prod(prod(stage.geometry.stride) for stage in chain.stages)
    return Apart(other, below[place] * channels)


def _merging(chain: Chain) -> float:
    """What making its merged kernels costs, in multiply-accumulates."""
    made = [stage for stage in chain.stages if len(stage.factors) > 1]
    return sum(one.contraction.macs + ELEMENT * prod(one.weight_shape) for one in made)


def _reading(chain: Chain) -> float:
    """What reading its weights costs, likewise."""
    return sum(READ * prod(stage.weight_shape) for stage in chain.stages)


def _each(chain: Chain, network: KernelNetwork) -> float:
    """What each position costs; of a linear layer what is moved too, which is most of it."""
    macs = sum(stage.roles.macs(network) for stage in chain.stages)
    return macs + ELEMENT * chain.traffic(()) if not network.order else macs


def _between(singles: Partition) -> Iterator[Partition]:
    """Neighbouring factors merged, in every way."""
    stages = len(singles)
    for kept in range(2 ** (stages - 1) if stages <= WHOLE else 0):
        cuts = [0, *(at for at in range(1, stages) if kept >> (at - 1) & 1), stages]
        runs = (singles[start:stop] for start, stop in pairwise(cuts))
        yield tuple(tuple(sorted(index for group in run for index in group)) for run in runs)
