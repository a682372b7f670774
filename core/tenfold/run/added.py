"""Plans whose outputs are added: one for each term of a sum, or one for several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

from torch import Tensor

from ..network import Geometry, KernelSum
from ..plugin import Convolution, MemoryFormat, Plan, Prepared
from .chain import Chain, lower


@dataclass(frozen=True)
class Merged(Plan):
    """The kernels of all terms, added: one dense convolution."""

    network: KernelSum
    chain: Chain  # of a network that is the one kernel

    @classmethod
    def of(cls, network: KernelSum, geometry: Geometry, like: Chain) -> Merged:
        """Of all terms of a sum, in the memory format of another chain, packed as that is."""
        dense = network.dense
        chain = lower(dense, ((0,),), geometry)
        return cls(network, replace(chain, memory_format=like.memory_format, packed=like.packed))

    @property
    def memory_format(self) -> MemoryFormat | None:
        """That of its convolution."""
        return self.chain.memory_format

    def kernel(self, factors: Sequence[Tensor]) -> list[Tensor]:
        """The one factor of the chain."""
        return [self.network.to_tensor(factors).reshape(self.network.dense.shapes[0])]

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        return self.chain(x, self.kernel(factors), bias)

    def prepare(self, factors: Sequence[Tensor], bias: Tensor | None) -> Prepared:
        """Add the kernels once."""
        return self.chain.prepare(self.kernel(factors), bias)

    def macs(self, size: Sequence[int]) -> int:
        """Those of a dense convolution."""
        return self.chain.macs(size)

    def traffic(self, size: Sequence[int]) -> int:
        """Likewise."""
        return self.chain.traffic(size)


@dataclass(frozen=True)
class Added(Plan):
    """Plans, each of some of the terms; the first adds the bias."""

    network: KernelSum
    plans: tuple[Convolution, ...]
    terms: tuple[tuple[int, ...], ...]  # of each plan

    @property
    def memory_format(self) -> MemoryFormat | None:
        """The one in which its convolutions run."""
        laid = [memory_format_of(plan) for plan in self.plans]
        return laid[0] if len(set(laid)) == 1 else None

    def parts(self, factors: Sequence[Tensor]) -> list[list[Tensor]]:
        """The factors of each plan."""
        apart = self.network.parts(factors)
        return [[one for term in some for one in apart[term]] for some in self.terms]

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        first, *rest = zip(self.plans, self.parts(factors), strict=True)
        y = first[0](x, first[1], bias)
        for plan, part in rest:
            y = y + plan(x, part, None)
        return y

    def prepare(self, factors: Sequence[Tensor], bias: Tensor | None) -> Prepared:
        """Prepare each plan that can be."""
        ways: list[Prepared] = []
        for plan, part in zip(self.plans, self.parts(factors), strict=True):
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
        chains = [plan for plan in self.plans if isinstance(plan, Chain | Merged)]
        if len(chains) < len(self.plans):
            return None
        moved = sum(chain.traffic(size) for chain in chains)
        first = chains[0].chain if isinstance(chains[0], Merged) else chains[0]
        for stage in first.stages:
            size = stage.geometry.output_size(size)
        return moved + 3 * (len(chains) - 1) * self.network.shape[0] * prod(size)


def add(network: KernelSum, plans: Sequence[Convolution], geometry: Geometry) -> Plan:
    """One plan from one for each term: those of whole kernels become one convolution."""
    whole = [i for i, plan in enumerate(plans) if isinstance(plan, Chain) and len(plan.stages) == 1]
    rest = [place for place in range(len(plans)) if place not in whole]
    if len(whole) < 2:
        return Added(network, tuple(plans), tuple((place,) for place in range(len(plans))))
    like = plans[whole[0]]
    assert isinstance(like, Chain)
    several = KernelSum.of([network.terms[place] for place in whole]) if rest else network
    merged = Merged.of(several, geometry, like)
    if not rest:
        return merged
    others = tuple(plans[place] for place in rest)
    return Added(network, (merged, *others), (tuple(whole), *((place,) for place in rest)))


def memory_format_of(plan: Convolution) -> MemoryFormat | None:
    """The layout that a plan's convolutions run in; None for that of the input."""
    return plan.memory_format if isinstance(plan, Chain | Added | Merged) else None


def run(plan: Convolution, factors: Sequence[Tensor], bias: Tensor | None, x: Tensor) -> Tensor:
    """Run a plan that has nothing to prepare."""
    return plan(x, factors, bias)


def added(ways: Sequence[Prepared], x: Tensor) -> Tensor:
    """Run each, and add."""
    first, *rest = (way(x) for way in ways)
    for one in rest:
        first = first + one
    return first
