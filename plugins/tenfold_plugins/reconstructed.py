"""Run the kernel as one dense convolution."""

from __future__ import annotations

from tenfold import Implementation
from tenfold.network import Geometry, KernelNetwork, Partition


class Reconstructed(Implementation):
    """All factors in one group: the kernel is contracted, then convolved with."""

    def plan(self, network: KernelNetwork, geometry: Geometry) -> Partition:
        return (tuple(range(len(network.factors))),)
