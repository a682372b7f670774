"""Tucker: a small core between one matrix for each mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization, KernelNetwork, leading_basis


class Tucker(Factorization):
    """`K[o, i, k…] = Σ A[o, ro] B[i, ri] G[ro, ri, k…]`; the spatial modes stay whole.

    A rank for every mode, `(ro, ri, s0, …)`, gives each spatial mode a matrix `(k, s)` too.
    Tucker 1966; for convolutions Kim et al. 2016, arXiv 1511.06530. By the sequentially truncated
    higher-order SVD (Vannieuwenhoven et al. 2012, doi:10.1137/110836067).
    """

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        outer: list[tuple[str, ...]] = [("out", "ro"), ("in", "ri")]
        every = isinstance(rank, Sequence) and not isinstance(rank, str) and len(rank) == order + 2
        if order and every:
            outer += [(f"k{axis}", f"s{axis}") for axis in range(order)]
            return [*outer, ("ro", "ri", *(f"s{axis}" for axis in range(order)))]
        return [*outer, ("ro", "ri", *(f"k{axis}" for axis in range(order)))]

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        """Decompose `kernel`, one mode after another, each from what the others left of it."""
        bases, core = [], kernel
        for mode, bond in enumerate(network.bonds, start=1):
            unfolded = core.movedim(mode, 1).flatten(2)
            basis = leading_basis(unfolded, network.sizes[bond])
            rest = core.movedim(mode, 1).shape[2:]
            core = (basis.mT @ unfolded).unflatten(2, rest).movedim(1, mode)
            bases.append(basis)
        return [*bases, core]
