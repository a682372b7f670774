"""A kernel as a sum in a norm: each term fitted to what the others leave, turned its own way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...algebra import by_group
from ...network import KernelNetwork, KernelSum, is_budget
from ...plugin import SHARES, Factorization, Sum
from ...solve import fit, rounded
from ..moments import Norm
from .turned import WORK, Turned

ROUNDS = 3  # over the terms
TYPICAL = 0.25  # of the dense parameters: where the terms' shares are tried


class TurnedSum:
    """What `Turned` is for one format, for several that are added."""

    def __init__(self, format_: Sum, kernel: Tensor, norm: Norm, groups: int) -> None:
        self.format, self.kernel, self.norm, self.groups = format_, kernel, norm, groups
        self.terms = [Turned(term, kernel, norm, groups) for term in format_.terms]
        self.share: float | None = None

    def network(self, rank: Any) -> KernelNetwork:
        """The network for a rank: the terms' shares of a budget are those that a typical one shows
        to be best, each spent by what counts in the norm."""
        if not is_budget(rank):
            return self.format.network(tuple(self.kernel.shape), rank, self.groups)
        if self.share is None:
            tried = [(self._lost(self._bought(TYPICAL, share)), share) for share in SHARES]
            self.share = min(tried)[1]
        return self._bought(rank, self.share)

    def asked(self, rank: Any, generator: torch.Generator) -> KernelNetwork:
        """The network for any request that `from_conv` takes; raises as that does."""
        return fit(self.format, self.kernel, rank, self.groups, generator)[0]

    def factors(self, network: KernelNetwork, generator: torch.Generator) -> list[Tensor]:
        """Factors of the kernel: those of the best of a few rounds."""
        assert isinstance(network, KernelSum)
        made = [torch.zeros_like(self.kernel) for _ in network.terms]
        found: list[list[Tensor]] = [[] for _ in network.terms]
        tried: list[tuple[float, list[Tensor]]] = []
        for _ in range(ROUNDS):
            for place, (term, inner) in enumerate(zip(self.terms, network.terms, strict=True)):
                left = self.kernel - torch.stack(made).sum(0) + made[place]
                found[place] = term.about(left).factors(inner, generator)
                made[place] = inner.to_tensor(found[place])
            whole = [factor for part in found for factor in part]
            tried.append((self._error(torch.stack(made).sum(0)), whole))
        return min(tried, key=lambda one: one[0])[1]

    def refined(
        self, network: KernelNetwork, factors: Sequence[Tensor], work: int = WORK
    ) -> list[Tensor] | None:
        """Factors nearer to the kernel in the norm, a term after another; None as of one format."""
        assert isinstance(network, KernelSum)
        parts = [list(part) for part in network.parts(factors)]
        changed = False
        for place, (term, inner) in enumerate(zip(self.terms, network.terms, strict=True)):
            others = [
                one.to_tensor(part).to(self.kernel)
                for one, part in zip(network.terms, parts, strict=True)
                if one is not inner
            ]
            left = self.kernel - torch.stack(others).sum(0)
            found = term.about(left).refined(inner, parts[place], work // len(parts))
            if found is not None:
                parts[place], changed = found, True
        return [factor for part in parts for factor in part] if changed else None

    def _bought(self, rank: Any, share: float) -> KernelSum:
        left = self.kernel

        def buy(place: int, request: Any) -> KernelNetwork:
            nonlocal left
            term = self.terms[place].about(left)
            network = term.network(request)
            if place + 1 < len(self.terms):
                left = left - network.to_tensor(term.factors(network, torch.Generator()))
            return network

        return self.format.bought(tuple(self.kernel.shape), rank, self.groups, share, buy)

    def _lost(self, network: KernelSum) -> float:
        made = network.to_tensor(self.factors(network, torch.Generator()))
        return self._error(made)

    def rounded(
        self, network: KernelNetwork, factors: Sequence[Tensor], rank: Any
    ) -> tuple[KernelNetwork, list[Tensor]]:
        """A network of these factors with smaller bonds."""
        return rounded(self.format, network, factors, rank)

    def _error(self, made: Tensor) -> float:
        return self.norm.squared(by_group(self.kernel - made, self.groups))[0]


def turned_for(
    format_: Factorization, kernel: Tensor, norm: Norm, groups: int
) -> Turned | TurnedSum:
    """A kernel turned for a format, or for each of several."""
    kind: Any = TurnedSum if isinstance(format_, Sum) else Turned
    turned: Turned | TurnedSum = kind(format_, kernel, norm, groups)
    return turned
