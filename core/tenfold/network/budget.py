"""A number of parameters spent on a network's bonds, and the sizes at which bonds are exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from itertools import combinations
from math import prod
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contraction import Modes

Sizes = dict[str, int]
Array = NDArray[np.float64]
POINTS = 100_000  # of the grid on which bonds are chosen together
TINY = 1e-12  # what a bond that keeps nothing is taken to keep


def exact(factors: Sequence[Modes], bonds: Modes, sizes: Mapping[str, int]) -> Sizes:
    """The bond sizes at which the network can hold every kernel."""
    return clip(factors, bonds, sizes, dict.fromkeys(bonds, prod(sizes.values())))


def clip(factors: Sequence[Modes], bonds: Modes, sizes: Mapping[str, int], asked: Sizes) -> Sizes:
    """Lower each bond to the least size that holds as much.

    A bond of many factors needs no more than the kernel's numel without its largest mode (a sum of
    that many outer products is any tensor: Kolda and Bader 2009, section 3.1). A bond of two needs
    no more than the rank of the kernel unfolded in some way, nor than the product of either
    factor's other modes (the rank of a matrix; of many, for modes of both).
    """
    owners = {bond: [factor for factor in factors if bond in factor] for bond in bonds}
    many, two = _limits(tuple(sizes.values()))
    limits = {bond: two if len(owners[bond]) == 2 else many for bond in bonds}
    size = {**sizes, **{bond: min(value, limits[bond]) for bond, value in asked.items()}}
    changed = True
    while changed:
        changed = False
        for bond in bonds:
            shared = set(owners[bond][0]).intersection(*owners[bond])
            sides = [prod(size[mode] for mode in f if mode not in shared) for f in owners[bond]]
            if len(sides) == 2 and size[bond] > min(sides):
                size[bond], changed = min(sides), True
    return {bond: size[bond] for bond in bonds}


@lru_cache(maxsize=64)
def _limits(sizes: tuple[int, ...]) -> tuple[int, int]:
    """The largest CP rank, and the largest rank of an unfolding, of a tensor of these sizes."""
    numel = prod(sizes)
    sides = [prod(side) for n in range(len(sizes)) for side in combinations(sizes, n)]
    return numel // max(sizes), max(min(side, numel // side) for side in sides)


@dataclass(frozen=True)
class Purse:
    """A number of parameters to spend on the bonds of a network."""

    factors: Sequence[Modes]
    bonds: Modes
    sizes: Mapping[str, int]  # of the open modes
    budget: int

    @cached_property
    def most(self) -> Sizes:
        """The bond sizes at which the network can hold every kernel."""
        return exact(self.factors, self.bonds, self.sizes)

    def cost(self, ranks: Sizes) -> int:
        """The parameters of the network with these bonds."""
        size = {**self.sizes, **ranks}
        return sum(prod(size[mode] for mode in factor) for factor in self.factors)

    def clip(self, ranks: Sizes) -> Sizes:
        return clip(self.factors, self.bonds, self.sizes, ranks)

    def in_proportion(self) -> Sizes:
        """Grow all bonds together, then one by one, the one furthest behind first."""
        most = self.most

        def scaled(fraction: float) -> Sizes:
            return self.clip({bond: max(1, int(fraction * most[bond])) for bond in self.bonds})

        low, high = 0.0, 1.0
        if self.cost(scaled(high)) <= self.budget:
            low = high
        while high - low > 0.5 / max(most.values(), default=1):
            middle = (low + high) / 2
            fits = self.cost(scaled(middle)) <= self.budget
            low, high = (middle, high) if fits else (low, middle)
        return self.grown(scaled(low), 1)

    def by_tails(self, lost: Mapping[str, Sequence[float]]) -> Sizes:
        """Choose all bonds together, so that most of the kernel is kept on the budget.

        What all bonds keep together lies between the product of what each keeps and the least of
        them; their geometric mean is what counts here, which came out best on trained kernels. All
        bonds but one are tried on a grid of sizes, the last gets what the budget leaves, in which
        the cost is linear. Around the best point the steps are halved down to one.
        """
        ones = self.clip(dict.fromkeys(self.bonds, 1))
        if self.cost(ones) >= self.budget:
            return ones
        most = self.most
        slack = max(self.bonds, key=lambda bond: most[bond])
        others = [bond for bond in self.bonds if bond != slack]
        count = int(POINTS ** (1 / max(1, len(others))))
        axes = [_spread(most[bond], count) for bond in others]
        best = self._best(lost, axes, others, slack)
        step = max((int(np.diff(axis).max(initial=1)) for axis in axes), default=1)
        while others and step > 1:
            step = (step + 1) // 2
            near = [
                np.unique(np.clip(best[bond] + step * np.arange(-2, 3), 1, most[bond]))
                for bond in others
            ]
            best = self._best(lost, near, others, slack)
        return best

    def _best(
        self,
        lost: Mapping[str, Sequence[float]],
        axes: Sequence[NDArray[np.int64]],
        others: Sequence[str],
        slack: str,
    ) -> Sizes:
        """The point of a grid that keeps most, and of those the one that costs least."""
        mesh = dict(zip(others, np.meshgrid(*axes, indexing="ij"), strict=True))
        flat = {bond: values.ravel().astype(np.float64) for bond, values in mesh.items()}
        empty = self._costs({**flat, slack: np.zeros(())})
        each = self._costs({**flat, slack: np.ones(())}) - empty
        room = np.floor((self.budget - empty) / each)
        size = {**flat, slack: np.minimum(room, self._limit(slack, flat))}
        logs = []
        for bond, values in size.items():
            kept = np.log(np.clip(1 - np.asarray(lost[bond]), TINY, 1))
            logs.append(kept[np.maximum(values, 0).astype(int)])
        loss = -(sum(logs) + reduce(np.minimum, logs))
        held = np.all([size[b] <= self._limit(b, size) for b in others], axis=0) if others else True
        loss = np.where(held & (size[slack] >= 1), loss, np.inf)
        best = np.where(loss == loss.min(), self._costs(size), np.inf).argmin()
        return {bond: int(np.ravel(size[bond])[best]) for bond in self.bonds}

    def _costs(self, ranks: Mapping[str, Array]) -> Array:
        """`cost`, of many networks at once."""
        size: dict[str, Any] = {**self.sizes, **ranks}
        total = np.zeros(())
        for factor in self.factors:
            total = total + reduce(mul, (size[mode] for mode in factor))
        return total

    def _limit(self, bond: str, ranks: Mapping[str, Array]) -> Array:
        """The most that a bond can hold beside `ranks`, as `clip` has it for a tree."""
        most = self.most
        size: dict[str, Any] = {**self.sizes, **most, **ranks}
        least = np.asarray(float(most[bond]))
        for factor in self.factors:
            if bond in factor:
                side = [size[mode] for mode in factor if mode != bond]
                least = np.minimum(least, reduce(mul, side, 1.0))
        return least

    def rounded(self, ranks: Sizes, base: int) -> Sizes:
        """Round bonds to multiples of `base`: down, then up again where the budget holds."""
        most = self.most
        down = {b: r if r < base or r == most[b] else r // base * base for b, r in ranks.items()}
        return self.grown(self.clip(down), base)

    def grown(self, ranks: Sizes, step: int) -> Sizes:
        """Grow bonds by `step`, the one furthest behind its exact size first, while one fits."""
        most = self.most
        while True:
            for bond in sorted(self.bonds, key=lambda bond: ranks[bond] / most[bond]):
                more = self.clip({**ranks, bond: ranks[bond] + step})
                whole = more[bond] == ranks[bond] + step and ranks[bond] % step == 0
                if whole and self.cost(more) <= self.budget:
                    ranks = more
                    break
            else:
                return ranks


def _spread(most: int, count: int) -> NDArray[np.int64]:
    """Up to `count` sizes from 1 to `most`, spread by ratio."""
    if most <= count:
        return np.arange(1, most + 1)
    return np.unique(np.geomspace(1, most, count).round().astype(np.int64))
