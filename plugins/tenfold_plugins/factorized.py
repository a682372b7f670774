"""Run the factors one after another."""

from __future__ import annotations

from tenfold import Implementation
from tenfold.network import Geometry, KernelNetwork, Partition, cheapest_partition


class Factorized(Implementation):
    """The partition with the fewest multiply-accumulates that merges only factors of a kind.

    A kind is input channels, output channels, space or some of these, told by a factor's open modes
    of more than one element; a factor without any goes with each. For CP it is four small
    convolutions; for Tucker 1×1, k×k, 1×1: a ResNet bottleneck (He et al. 2016, arXiv 1512.03385).
    Of a linear layer what its stages move counts too.
    In training, where a merged kernel is made anew on each call, small inputs meet its factors one
    by one.
    """

    apart = True

    def plan(self, network: KernelNetwork, geometry: Geometry) -> Partition:
        kinds = [frozenset(kind(network, factor)) for factor in network.factors]

        def of_a_kind(group: tuple[int, ...]) -> bool:
            return len(group) == 1 or len({kinds[i] for i in group if kinds[i]}) <= 1

        return cheapest_partition(network, geometry, of_a_kind, traffic=geometry.order == 0)


def kind(network: KernelNetwork, factor: tuple[str, ...]) -> set[str]:
    """Which kinds of open modes a factor has: `"in"`, `"out"` and `"space"`."""
    large = [mode for mode in factor if network.sizes[mode] > 1]
    kinds = {"space": network.spatial, "in": network.ins, "out": network.outs}
    return {name for name, modes in kinds.items() if any(mode in modes for mode in large)}
