"""Tensor train: a chain of factors, one for each mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization, KernelNetwork


class TT(Factorization):
    """`K[o, i, k…] = Σ A[i, b0] G₀[b0, k0, b1] … B[b_N, o]`, from the input to the output.

    A rank has the interior bonds, with or without a 1 at both ends. Oseledets 2011,
    doi:10.1137/090752286; decomposed by its TT-SVD.
    """

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        middle = [(f"b{axis}", f"k{axis}", f"b{axis + 1}") for axis in range(order)]
        return [("in", "b0"), *middle, (f"b{order}", "out")]

    def ranks(self, shape: Sequence[int], rank: Any) -> tuple[int, ...]:
        ended = isinstance(rank, Sequence) and not isinstance(rank, str) and len(rank) > len(shape)
        if ended and rank[0] == rank[-1] == 1:
            rank = tuple(rank[1:-1])
        return super().ranks(shape, rank)

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        """Decompose `kernel`, splitting off one mode after another by a truncated SVD."""
        chain = kernel.movedim(1, -1)  # (groups, in, *k, out)
        groups, sizes = chain.shape[0], chain.shape[1:]
        factors, bond, rest = [], 1, chain.reshape(groups, 1, -1)
        for size, name in zip(sizes, network.bonds, strict=False):
            matrix = rest.reshape(groups, bond * size, -1)
            u, s, v = torch.linalg.svd(matrix, full_matrices=False)
            kept = network.sizes[name]
            factors.append(u[..., :kept].reshape(groups, bond, size, kept))
            rest, bond = s[:, :kept, None] * v[:, :kept], kept
        return [factors[0].squeeze(1), *factors[1:], rest]
