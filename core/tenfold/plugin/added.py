"""A sum of formats: low rank plus depthwise, say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..network import KernelNetwork, KernelSum, Modes, Multiple, is_budget, with_group
from .factorization import Factorization

SHARES = (0.15, 0.35, 0.5, 0.65, 0.85)  # of a budget, that one term is tried with


@dataclass(frozen=True, kw_only=True)
class Sum(Factorization):
    """`K = K₁ + K₂ + …`, each term in a format of its own: `"tucker+depthwise_separable"` by name.

    `terms` are formats, or their classes; each runs by a plan of its own, and the outputs are
    added. A rank has the bonds of all terms, in order; a budget is spent over all of them: without
    a kernel in equal shares, with one by the share whose decomposition is nearest. The factors are
    fitted term by term to what the others leave, again and again, and then factor by factor, for
    at most `sweeps` rounds, which stop at one that lowers the error by less than the fraction
    `tolerance` of it (backfitting, Buja et al. 1989, doi:10.1214/aos/1176347115).

    Raises `ValueError` for less than two terms, `TypeError` for what is no format.

    >>> both = Sum(terms=(factorizations["tucker"], factorizations["depthwise_separable"]))
    >>> layer = FactorizedConv(16, 16, (3, 3), rank=0.5, factorization=both)
    >>> same = FactorizedConv(16, 16, (3, 3), factorization="tucker+depthwise_separable")
    >>> network = both.network((16, 16, 3, 3), rank=2)
    >>> both.factors(2, rank=2) == network.factors, both.constants(network, torch.zeros(()))
    (True, {})
    """

    sweeps: int = 10
    terms: tuple[Factorization, ...] = ()

    def __post_init__(self) -> None:
        made = tuple(one() if isinstance(one, type) else one for one in self.terms)
        if len(made) < 2:
            raise ValueError(f"terms={self.terms!r} must be at least two formats")
        if not all(isinstance(one, Factorization) for one in made):
            raise TypeError(f"terms={self.terms!r} must be formats, or their classes")
        object.__setattr__(self, "terms", made)

    def factors(self, order: int, rank: Any) -> Sequence[Modes]:
        """The factors of all terms, their bonds renamed: `r` of the first is `0.r`.

        Raises `ValueError` as the terms do.
        """
        return self.network((1,) * (order + 2), 1).factors

    def network(
        self,
        shape: Sequence[int],
        rank: Any,
        groups: int = 1,
        kernel: Tensor | None = None,
    ) -> KernelSum:
        """The networks of the terms, for a kernel of shape `(out, in/groups, *k)`.

        Raises `ValueError` or `TypeError` for a request that is not understood.
        """
        if kernel is not None and kernel.is_complex():
            kernel = None  # the terms' own decompositions are of real ones
        if is_budget(rank):
            return self._spent(shape, rank, groups, kernel)
        ranks = [rank] * len(self.terms)
        if isinstance(rank, Sequence):
            ranks, start = [], 0
            for term in self.terms:
                count = len(term.network(shape, 1, groups).bonds)
                ranks.append(tuple(rank[start : start + count]))
                start += count
            if start != len(rank):
                raise ValueError(f"rank={tuple(rank)!r} must have {start} numbers, of all terms")
        pairs = zip(self.terms, ranks, strict=True)
        return KernelSum.of([term.network(shape, one, groups, kernel) for term, one in pairs])

    def for_tensors(self) -> Sum:
        """The sum of what its terms are for tensors.

        >>> Sum(terms=(factorizations["tucker"], factorizations["cp"])).for_tensors().terms[0].every
        True
        """
        return replace(self, terms=tuple(term.for_tensors() for term in self.terms))

    def constants(self, network: KernelNetwork, like: Tensor) -> dict[int, Tensor]:
        """Those of each term, of shapes `(sizes[mode], …)`; raises `ValueError` as theirs do."""
        assert isinstance(network, KernelSum)
        found: dict[int, Tensor] = {}
        start = 0
        for term, inner in zip(self.terms, network.terms, strict=True):
            found |= {start + i: one for i, one in term.constants(inner, like).items()}
            start += len(inner.factors)
        return found

    def _spent(
        self, shape: Sequence[int], rank: Any, groups: int, kernel: Tensor | None
    ) -> KernelSum:
        best: tuple[float, KernelSum] | None = None
        for share in (None,) if kernel is None else SHARES:
            gap = kernel

            def buy(place: int, request: Any) -> KernelNetwork:
                nonlocal gap
                term = self.terms[place]
                network = term.network(shape, request, groups, gap)
                gap = None if gap is None else left_over(term, gap, network)
                return network

            bought = self.bought(shape, rank, groups, share, buy)
            error = 0.0 if gap is None else float(gap.norm())
            if best is None or error < best[0]:
                best = (error, bought)
        assert best is not None
        return best[1]

    def bought(
        self,
        shape: Sequence[int],
        rank: Any,
        groups: int,
        share: float | None,
        buy: Callable[[int, Any], KernelNetwork],
    ) -> KernelSum:
        """Spend a budget on a kernel of shape `(out, in/groups, *k)`, term after term.

        Each term but the last gets a `share` of what is left (None shares it evenly), and `buy`
        gives its network by its place and the request. Raises as `buy` does.

        >>> both = Sum(terms=(factorizations["cp"], factorizations["tt"]))
        >>> def buy(place, request):
        ...     return both.terms[place].network((8, 8, 3), request)
        >>> both.bought((8, 8, 3), 0.8, 1, None, buy).numel <= 0.8 * 8 * 8 * 3
        True
        """
        asked = rank.of if isinstance(rank, Multiple) else rank
        whole = prod(shape)
        left = int((1.0 if isinstance(asked, str) else float(asked)) * whole * (1 + 1e-12))
        least = [term.network(shape, 1, groups).numel for term in self.terms]
        chosen: list[KernelNetwork] = []
        for place, smallest in enumerate(least):
            after = len(least) - place
            part = 1.0 if after == 1 else 1 / after if share is None else share
            fraction = (smallest + part * max(0, left - sum(least[place:]))) / whole
            request = replace(rank, of=fraction) if isinstance(rank, Multiple) else fraction
            chosen.append(buy(place, request))
            left -= chosen[-1].numel
        return KernelSum.of(chosen)


def left_over(term: Factorization, kernel: Tensor, network: KernelNetwork) -> Tensor:
    """What a term's own decomposition leaves of a kernel `(groups, out, in, *k)`.

    The random numbers that it may draw are always the same: ranks do not depend on chance.
    """
    grouped = with_group(network)
    norm = float(kernel.norm()) or 1.0
    work = kernel.reshape([grouped.sizes[mode] for mode in grouped.open_modes]) / norm
    generator = torch.Generator().manual_seed(0)
    found = term.decompose(work, grouped, generator)
    return kernel - norm * grouped.to_tensor(list(found)).reshape(kernel.shape)
