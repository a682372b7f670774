"""Tensor train: a chain of factors, one for each mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization, KernelNetwork, chain_svd


class TT(Factorization):
    """`K[o, i, k…] = Σ A[i, b0] G₀[b0, k0, b1] … B[b_N, o]`, from the input to the output.

    A rank has the interior bonds, with or without a 1 at both ends. Oseledets 2011,
    doi:10.1137/090752286; decomposed by its TT-SVD.
    """

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        middle = [(f"b{axis}", f"k{axis}", f"b{axis + 1}") for axis in range(order)]
        return [("in", "b0"), *middle, (f"b{order}", "out")]

    def ranks(
        self, shape: Sequence[int], rank: Any, kernel: Tensor | None = None
    ) -> tuple[int, ...]:
        ended = isinstance(rank, Sequence) and not isinstance(rank, str) and len(rank) > len(shape)
        if ended and rank[0] == rank[-1] == 1:
            rank = tuple(rank[1:-1])
        return super().ranks(shape, rank, kernel)

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        return chain_svd(kernel, network)
