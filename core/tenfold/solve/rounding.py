"""Factors of smaller bonds for a network's: what a rank request buys of what is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from ..algebra import (
    balance,
    fit_network,
    is_tree,
    on_one_thread,
    round_tree,
    spectra,
    work_dtype,
)
from ..network import (
    GROUP,
    Energy,
    Error,
    KernelNetwork,
    KernelSum,
    Modes,
    Multiple,
    inner_product,
    is_budget,
    spend,
    with_group,
)
from ..plugin import Factorization, Sum
from .fitting import structure
from .together import together

HALVINGS = 6  # of the interval in which the least fraction of the bonds is looked for
Rounded = tuple[KernelNetwork, list[Tensor]]


@torch.no_grad()
def rounded(
    factorization: Factorization, network: KernelNetwork, factors: Sequence[Tensor], rank: Any
) -> Rounded:
    """A network of the same factors with smaller bonds, and its factors, in their dtype.

    A tree is rounded by QR and SVD, anything else fitted by least squares between the two networks;
    bonds never grow. Raises `ValueError` or `TypeError` for a request that is not understood, or
    factors on the meta device.
    """
    if factors[0].is_meta:
        raise ValueError("factors on the meta device have no values to round: give rank= anew")
    if isinstance(network, KernelSum):
        return _terms(factorization, network, factors, rank)
    dtype = factors[0].dtype
    grouped = with_group(network)
    with on_one_thread(max(factor.numel() for factor in factors)):
        work = [
            one.detach().to(work_dtype(one)).reshape(shape)
            for one, shape in zip(factors, grouped.shapes, strict=True)
        ]
        norm = max(float(inner_product(grouped, work, grouped, work)), 0.0) ** 0.5 or 1.0
        first = grouped.free[0]
        work[first] = work[first] / norm
        kind = _Tree if is_tree(grouped) else _Loop
        new, found = kind(factorization, network, grouped, work).bought(rank)
        found[first] = found[first] * norm
        found = balance(found, new.constants)
    stored = [
        one.reshape(shape).to(dtype).contiguous()
        for one, shape in zip(found, new.shapes, strict=True)
    ]
    return new, stored


def _terms(
    factorization: Factorization, network: KernelSum, factors: Sequence[Tensor], rank: Any
) -> Rounded:
    """Each term of a sum by itself, and then all of them together."""
    assert isinstance(factorization, Sum)
    if not isinstance(rank, Sequence) or isinstance(rank, str):
        if isinstance(rank, Error | Energy):
            raise ValueError(f"rank={rank!r} of a sum of formats is not known: give its ranks")
        whole = structure(factorization, network.shape, rank, network.groups, None)
        rank = [whole.sizes[bond] for bond in whole.bonds]
    if len(rank) != len(network.bonds):
        raise ValueError(
            f"rank={tuple(rank)!r} must have {len(network.bonds)} numbers, of all terms"
        )
    asked = iter(rank)
    olds = list(zip(network.terms, network.parts(factors), strict=True))
    news = [
        rounded(format_, term, part, tuple(next(asked) for _ in term.bonds))
        for format_, (term, part) in zip(factorization.terms, olds, strict=True)
    ]
    terms = [term for term, _ in news]
    found = together(factorization.terms, olds, news)
    stored = [one.to(factors[0].dtype).contiguous() for part in found for one in part]
    return KernelSum.of(terms), stored


@dataclass(frozen=True)
class _Rounding:
    """A network to be rounded: as its format gave it, and with the mode `group`, of norm 1."""

    factorization: Factorization
    network: KernelNetwork
    grouped: KernelNetwork
    factors: list[Tensor]

    def bought(self, rank: Any) -> Rounded:
        """What a request buys."""
        if isinstance(rank, Error | Energy):
            return self.within(rank.most if isinstance(rank, Error) else (1 - rank.kept) ** 0.5)
        return self.at(self.ranks(rank))

    def within(self, most: float) -> Rounded:
        """The smallest whose relative error is at most so large."""
        raise NotImplementedError

    def fitted(self, new: KernelNetwork) -> list[Tensor]:
        """The factors of a network with smaller bonds."""
        raise NotImplementedError

    def spent(self, rank: Any) -> tuple[int, ...]:
        """The bond sizes that a budget buys."""
        raise NotImplementedError

    def at(self, ranks: Sequence[int]) -> Rounded:
        bonds = self.network.bonds
        least = tuple(min(r, self.network.sizes[b]) for r, b in zip(ranks, bonds, strict=True))
        shape, groups = self.network.shape, self.network.groups
        new = self.factorization.network(shape, least, groups)
        return new, self.fitted(with_group(new))

    def ranks(self, rank: Any) -> tuple[int, ...]:
        """The bond sizes of a request; as many as the network has, whatever it was asked for."""
        network, bonds = self.network, self.network.bonds
        if isinstance(rank, Integral) and not isinstance(rank, bool):
            rank = (rank,) * len(bonds) if len(bonds) > 1 else rank
        if is_budget(rank) and not (isinstance(rank, str) and rank != "same"):
            return self.spent(rank)
        made = structure(self.factorization, network.shape, rank, network.groups, None)
        if made.bonds != bonds:
            raise ValueError(f"rank={rank!r} must have {len(bonds)} numbers, for {bonds}")
        return tuple(made.sizes[bond] for bond in bonds)


class _Tree(_Rounding):
    """Bonds that can be cut one by one."""

    def fitted(self, new: KernelNetwork) -> list[Tensor]:
        found = round_tree(self.grouped, self.factors, new.sizes)
        return [_filled(one, shape) for one, shape in zip(found, new.shapes, strict=True)]

    def spent(self, rank: Any) -> tuple[int, ...]:
        network = self.network
        sizes = {m: network.sizes[m] for m in network.open_modes if m != GROUP}
        inner = [tuple(m for m in factor if m != GROUP) for factor in network.factors]
        lost = self.lost() if len(network.bonds) > 1 else None
        return spend(inner, network.bonds, sizes, rank, lost, network.constants)

    def lost(self) -> dict[Modes, list[float]]:
        """What each bond loses at each size, as a fraction of the kernel's square."""
        lost: dict[Modes, list[float]] = {}
        for bond, squares in spectra(self.grouped, self.factors).items():
            left = (squares.flip(0).cumsum(0).flip(0) / squares.sum().clamp_min(1e-300)).tolist()
            lost[(bond,)] = [*left, *[0.0] * (self.network.sizes[bond] + 1 - len(left))]
        return lost

    def within(self, most: float) -> Rounded:
        lost, bonds = self.lost(), self.network.bonds
        share = most**2 / max(1, len(bonds))
        ranks = (next(n for n, left in enumerate(lost[(b,)]) if left <= share) for b in bonds)
        return self.at([max(1, one) for one in ranks])


class _Loop(_Rounding):
    """Bonds of many factors, in loops, or bound to constants."""

    def fitted(self, new: KernelNetwork) -> list[Tensor]:
        plugin = self.factorization
        constants = plugin.constants(new, self.factors[0])
        return fit_network(
            self.grouped, self.factors, new, constants, plugin.sweeps, plugin.tolerance
        )

    def spent(self, rank: Any) -> tuple[int, ...]:
        """All bonds lowered in proportion, then raised one by one while the budget allows."""
        fraction = rank.of if isinstance(rank, Multiple) else rank
        fraction = 1.0 if isinstance(fraction, str) else float(fraction)
        budget, now = fraction * prod(self.network.shape), list(self.lowered(0.0))
        steps = max(self.network.sizes[bond] for bond in self.network.bonds)
        for step in range(steps, 0, -1):
            if self.cost(self.lowered(step / steps)) <= budget:
                now = list(self.lowered(step / steps))
                break
        for place, bond in enumerate(self.network.bonds):
            while now[place] < self.network.sizes[bond]:
                more = [n + (index == place) for index, n in enumerate(now)]
                if self.cost(more) > budget:
                    break
                now = more
        return tuple(now)

    def cost(self, ranks: Sequence[int]) -> int:
        sizes = {**self.network.sizes, **dict(zip(self.network.bonds, ranks, strict=True))}
        factors = self.network.factors
        return sum(prod(sizes[mode] for mode in factors[index]) for index in self.network.free)

    def lowered(self, fraction: float) -> tuple[int, ...]:
        """The bonds at a fraction of their sizes."""
        sizes = self.network.sizes
        return tuple(max(1, ceil(fraction * sizes[bond])) for bond in self.network.bonds)

    def within(self, most: float) -> Rounded:
        best = self.at(self.lowered(1.0))
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            found = self.at(self.lowered(middle))
            good = self.error(with_group(found[0]), found[1]) <= most
            low, high = (low, middle) if good else (middle, high)
            best = found if good else best
        return best

    def error(self, new: KernelNetwork, found: Sequence[Tensor]) -> float:
        cross = inner_product(self.grouped, self.factors, new, found)
        squared = float(1 - 2 * cross + inner_product(new, found, new, found))
        return float(max(0.0, squared) ** 0.5)


def _filled(factor: Tensor, shape: Sequence[int]) -> Tensor:
    """A factor whose bonds may be smaller than asked for, filled up with zeros."""
    missing = [n for have, want in zip(factor.shape, shape, strict=True) for n in (want - have, 0)]
    return torch.nn.functional.pad(factor, missing[::-1])
