"""Plans whose outputs are added: one for each term of a sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

from torch import Tensor

from ..network import KernelSum
from ..plugin import Convolution, Plan, Prepared
from .chain import Chain


@dataclass(frozen=True)
class Added(Plan):
    """The plan of each term; the first adds the bias."""

    network: KernelSum
    plans: tuple[Convolution, ...]

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        first, *rest = zip(self.plans, self.network.parts(factors), strict=True)
        y = first[0](x, first[1], bias)
        for plan, part in rest:
            y = y + plan(x, part, None)
        return y

    def prepare(self, factors: Sequence[Tensor], bias: Tensor | None) -> Prepared:
        """Prepare each plan that can be."""
        ways: list[Prepared] = []
        for plan, part in zip(self.plans, self.network.parts(factors), strict=True):
            mine = None if ways else bias
            if isinstance(plan, Plan):
                ways.append(plan.prepare(part, mine))
            else:
                ways.append(partial(run, plan, part, mine))
        return partial(added, tuple(ways))

    def macs(self, size: Sequence[int]) -> int | None:
        """The sum of the plans', where each counts its own."""
        counts = [plan.macs(size) if isinstance(plan, Plan) else None for plan in self.plans]
        counted = [count for count in counts if count is not None]
        return sum(counted) if len(counted) == len(counts) else None

    def traffic(self, size: Sequence[int]) -> int | None:
        """Elements that its plans and their sum read and write; None with code of its own."""
        chains = [plan for plan in self.plans if isinstance(plan, Chain)]
        if len(chains) < len(self.plans):
            return None
        moved = sum(chain.traffic(size) for chain in chains)
        for stage in chains[0].stages:
            size = stage.geometry.output_size(size)
        return moved + 3 * (len(chains) - 1) * self.network.shape[0] * prod(size)


def run(plan: Convolution, factors: Sequence[Tensor], bias: Tensor | None, x: Tensor) -> Tensor:
    """Run a plan that has nothing to prepare."""
    return plan(x, factors, bias)


def added(ways: Sequence[Prepared], x: Tensor) -> Tensor:
    """Run each, and add."""
    first, *rest = (way(x) for way in ways)
    for one in rest:
        first = first + one
    return first
