"""Tensor train: a chain of factors, one for each mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tenfold.algebra import alternating_least_squares, chain_svd
from tenfold.network import KernelNetwork

from .tensorly_solver import TensorLySolved


@dataclass(frozen=True, kw_only=True)
class TT(TensorLySolved):
    """`K[o, i, k…] = Σ A[i, b0] G₀[b0, k0, b1] … B[b_N, o]`, from the input to the output.

    A rank has the interior bonds, with or without a 1 at both ends. Oseledets 2011,
    doi:10.1137/090752286. By its TT-SVD, within `√(bonds)` of the best, then `sweeps` of
    alternating least squares. `solver="tensorly"` runs TensorLy's `tensor_train` instead, on the
    kernel as `(in, *k, out)`, with `solver_options`.
    """

    sweeps: int = 0

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
        if self.solver != "tenfold":
            return self._by_tensorly(kernel, network, generator)
        factors = chain_svd(kernel, network)
        if self.sweeps == 0:
            return factors
        return alternating_least_squares(
            kernel, network, start=factors, sweeps=self.sweeps, tolerance=self.tolerance
        )

    def _by_tensorly(
        self, kernel: Tensor, network: KernelNetwork, generator: torch.Generator | None
    ) -> list[Tensor]:
        rank = [1, *(network.sizes[bond] for bond in network.bonds), 1]
        found = self.by_tensorly("tensor_train", kernel.movedim(1, -1), rank, generator)
        cores = zip(*(one.factors for one in found), strict=True)
        return [
            torch.stack(parts).reshape(shape)
            for parts, shape in zip(cores, network.shapes, strict=True)
        ]
