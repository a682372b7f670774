"""In training a kernel is made anew on each call: where that costs most, factors run one by one."""

from __future__ import annotations

from dataclasses import replace
from math import inf, prod

from ..network import Geometry, KernelNetwork, cheapest_partition, partition_macs
from .chain import Apart, Chain, lower

ELEMENT = 24  # multiply-accumulates that take as long as one moves: tests/benchmarks/traffic.py


def with_apart(chain: Chain, network: KernelNetwork, geometry: Geometry) -> Chain:
    """Let `chain` run factor by factor where that is cheaper than to merge them first.

    Merging, and moving what is made, costs the same whatever the input, and what it saves grows
    with the input's size: so there is a size below which it does not pay. Unchanged where nothing
    is merged, or where single factors cannot run.
    """
    made = [stage for stage in chain.stages if len(stage.factors) > 1]
    merging = sum(one.contraction.macs + ELEMENT * prod(one.weight_shape) for one in made)
    if merging == 0 or all(len(group) == 1 for group in chain.partition):
        return chain
    try:
        singles = cheapest_partition(network, geometry, lambda group: len(group) == 1)
    except ValueError:  # a spatial mode is in two factors
        return chain
    each, merged = (partition_macs(network, one, geometry) for one in (singles, chain.partition))
    assert each is not None  # both are partitions
    assert merged is not None
    saved = each - merged
    positions = merging / saved if saved > 0 else inf
    if not geometry.transposed:  # count them at the input
        positions *= prod(geometry.stride)
    channels = network.shape[1] * network.groups
    apart = replace(lower(network, singles, geometry), memory_format=chain.memory_format)
    return replace(chain, apart=Apart(apart, positions * channels))
