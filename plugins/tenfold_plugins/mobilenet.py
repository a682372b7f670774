"""Run a kernel as a MobileNet-v2 block: 1×1, depthwise k×k, 1×1."""

from __future__ import annotations

from tenfold import Implementation
from tenfold.network import Geometry, KernelNetwork, Partition, roles


class MobileNet(Implementation):
    """The input's factors, all spatial factors as one depthwise convolution, the output's factors.

    Sandler et al. 2018, arXiv 1801.04381. Of order 0 the middle is empty.
    """

    def plan(self, network: KernelNetwork, geometry: Geometry) -> Partition:
        every = range(len(network.factors))
        opens = [frozenset(factor) & frozenset(network.open_modes) for factor in network.factors]
        spatial = [bool(some & frozenset(network.spatial)) for some in opens]
        ins, outs = frozenset(network.ins), frozenset(network.outs)
        last = tuple(i for i in every if opens[i] & outs and not spatial[i])
        first = tuple(i for i in every if opens[i] & ins and not spatial[i] and i not in last)
        middle = tuple(i for i in every if i not in first and i not in last)
        if middle:
            role = roles(network, first, middle, geometry)
            if role is None or role.summed or role.passed or outs & frozenset(role.new):
                summed, new = (
                    ", ".join(modes) for modes in ((role.summed, role.new) if role else ((), ()))
                )
                raise ValueError(
                    f"its middle convolution must be depthwise, and here it sums over ({summed}) "
                    f"and makes ({new}): use implementation='factorized', or factorization='cp'"
                )
        return tuple(group for group in (first, middle, last) if group)
