"""A number of parameters spent on a network's bonds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contraction import Modes
from .cut import cuts
from .exact import Sizes, clip, exact, limiting

Array = NDArray[np.float64]
Losses = Mapping[Modes, Sequence[float]]
POINTS = 100_000  # of the grid on which bonds are chosen together
SMALL = 4  # times smaller than the largest is a bond that may be kept whole
MANY = 5  # bonds besides one, around which fewer points are tried
TINY = 1e-12  # what a bond that keeps nothing is taken to keep


@dataclass(frozen=True)
class Purse:
    """A number of parameters to spend on the bonds of a network."""

    factors: Sequence[Modes]
    bonds: Modes
    sizes: Mapping[str, int]  # of the open modes
    budget: int
    constants: tuple[int, ...] = ()  # factors that cost nothing

    @cached_property
    def paid(self) -> tuple[Modes, ...]:
        """The factors that are parameters."""
        return tuple(f for index, f in enumerate(self.factors) if index not in self.constants)

    @cached_property
    def most(self) -> Sizes:
        """The bond sizes at which the network can hold every kernel."""
        return exact(self.factors, self.bonds, self.sizes, self.constants)

    @cached_property
    def _cuts(self) -> dict[Modes, int]:
        """The bonds of each cut that has one to choose, and the product at which they are exact."""
        found = cuts(tuple(map(tuple, self.factors)))
        return {
            cut.bonds: cut.most(self.sizes) for cut in found if set(cut.bonds) & set(self.bonds)
        }

    def cost(self, ranks: Sizes) -> int:
        """The parameters of the network with these bonds."""
        size = {**self.sizes, **ranks}
        return sum(prod(size[mode] for mode in factor) for factor in self.paid)

    def clip(self, ranks: Sizes) -> Sizes:
        return clip(self.factors, self.bonds, self.sizes, ranks, self.constants)

    def in_proportion(self) -> Sizes:
        """Grow all bonds together, then one by one, the one furthest behind first.

        A bond that is small beside another keeps its exact size where that keeps more of a kernel
        which loses the same by each step: it costs little, and else rounds to next to nothing.
        """
        most = self.most
        small = [b for b in self.bonds if SMALL * most[b] <= max(most.values())]
        whole: Sizes = {}
        best = self._together(whole)
        kept = self._kept(None) if small else {}
        for bond in sorted(small, key=lambda bond: most[bond]):
            tried = self._together({**whole, bond: most[bond]})
            if self.cost(tried) <= self.budget and self._loss(kept, tried) < self._loss(kept, best):
                whole, best = {**whole, bond: most[bond]}, tried
        return best

    def _together(self, whole: Sizes) -> Sizes:
        """All bonds but those that are `whole`, grown in proportion to their exact sizes."""
        most = self.most

        def scaled(fraction: float) -> Sizes:
            part = {bond: max(1, int(fraction * most[bond])) for bond in self.bonds}
            return self.clip({**part, **whole})

        low, high = 0.0, 1.0
        if self.cost(scaled(high)) <= self.budget:
            low = high
        while high - low > 0.5 / max(most.values(), default=1):
            middle = (low + high) / 2
            fits = self.cost(scaled(middle)) <= self.budget
            low, high = (middle, high) if fits else (low, middle)
        return self.grown(scaled(low), 1)

    def by_losses(self, lost: Losses) -> Sizes:
        """Choose all bonds together, so that most of the kernel is kept on the budget.

        `lost` says of the bonds of each cut what each product of them loses. What all cuts keep
        together lies between the product of what each keeps and the least of them; their geometric
        mean is what counts here, which came out best on trained kernels. All bonds but one are
        tried on a grid of sizes, the last gets what the budget leaves, in which the cost is linear.
        Around the best point the steps are halved down to one. Where bonds are cut together, and so
        need more than the cuts tell, what is left goes to the one furthest behind.
        """
        ones = self.clip(dict.fromkeys(self.bonds, 1))
        if self.cost(ones) >= self.budget:
            return ones
        most, kept = self.most, self._kept(lost)
        slack = max(self.bonds, key=lambda bond: most[bond])
        others = [bond for bond in self.bonds if bond != slack]
        count = max(2, int(POINTS ** (1 / len(others))))
        axes = [_spread(most[bond], count) for bond in others]
        best = self._best(kept, axes, others, slack)
        step = max(int(np.diff(axis).max(initial=1)) for axis in axes)
        near = np.arange(-2, 3) if len(others) < MANY else np.arange(-1, 2)
        while step > 1:
            step = (step + 1) // 2
            axes = [np.unique(np.clip(best[bond] + step * near, 1, most[bond])) for bond in others]
            best = self._best(kept, axes, others, slack)
        apart = all(len(bonds) == 1 for bonds in kept)
        return best if apart else self.grown(self.clip(best), 1)

    def _kept(self, lost: Losses | None) -> dict[Modes, Array]:
        """The logarithm of what each product of the bonds of each cut keeps."""
        kept = {}
        held = {bond for index in self.constants for bond in self.factors[index]}
        for bonds, most in self._cuts.items():
            if not held.isdisjoint(bonds):  # a constant does not turn to what a kernel has most of
                continue
            parts = np.arange(most, -1, -1) / most if lost is None else np.asarray(lost[bonds])
            kept[bonds] = np.log(np.clip(1 - parts, TINY, 1))
        told = {bond for bonds in kept for bond in bonds}
        for bond in (bond for bond in self.bonds if bond not in told):  # by no cut
            most = self.most[bond]
            kept[(bond,)] = np.log(np.clip(np.arange(most + 1) / most, TINY, 1))
        return kept

    def _best(
        self,
        kept: Mapping[Modes, Array],
        axes: Sequence[NDArray[np.int64]],
        others: Sequence[str],
        slack: str,
    ) -> Sizes:
        """The point of a grid that keeps most, and of those the one that costs least."""
        mesh = dict(zip(others, np.meshgrid(*axes, indexing="ij"), strict=True))
        flat = {bond: values.ravel().astype(np.float64) for bond, values in mesh.items()}
        empty = self._costs({**flat, slack: np.zeros(())})
        each = self._costs({**flat, slack: np.ones(())}) - empty
        room = np.floor((self.budget - empty) / np.maximum(each, TINY))
        size = {**flat, slack: np.minimum(room, self._limit(slack, flat))}
        loss = self._loss(kept, size)
        within = np.all([size[b] <= self._limit(b, size) for b in others], axis=0)
        loss = np.where(within & (size[slack] >= 1), loss, np.inf)
        best = np.where(loss == loss.min(), self._costs(size), np.inf).argmin()
        return {bond: int(np.ravel(size[bond])[best]) for bond in self.bonds}

    def _loss(self, kept: Mapping[Modes, Array], ranks: Mapping[str, Any]) -> Array:
        """How little is kept with these bonds, of many networks at once: see `by_losses`."""
        size: dict[str, Any] = {**self.sizes, **ranks}
        logs = []
        for bonds, values in kept.items():
            held = reduce(mul, (size[bond] for bond in bonds))
            logs.append(values[np.clip(held, 0, len(values) - 1).astype(int)])
        return -np.asarray(sum(logs) + reduce(np.minimum, logs))

    def _costs(self, ranks: Mapping[str, Array]) -> Array:
        """`cost`, of many networks at once."""
        size: dict[str, Any] = {**self.sizes, **ranks}
        total = np.zeros(())
        for factor in self.paid:
            total = total + reduce(mul, (size[mode] for mode in factor))
        return total

    def _limit(self, bond: str, ranks: Mapping[str, Array]) -> Array:
        """The most that a bond can hold beside `ranks`, as `clip` has it."""
        most = self.most
        size: dict[str, Any] = {**self.sizes, **most, **ranks}
        least = np.asarray(float(most[bond]))
        for side in limiting(self.factors, bond, self.constants)[0]:
            least = np.minimum(least, reduce(mul, (size[mode] for mode in side), 1.0))
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
