"""Kronecker: a sum of Kronecker products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization
from tenfold.algebra import chain_svd
from tenfold.network import KernelNetwork, balanced


class Kronecker(Factorization):
    """`K = Σ_r A_r ⊗ B_r`, `A` of channels alone and `B` of channels and space.

    The channels are products of two numbers near each other. Hameed et al. 2022, arXiv 2109.14710
    (KPD). One matrix SVD of the rearranged kernel, the optimum (Van Loan and Pitsianis 1993).
    """

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        space = (f"k{axis}" for axis in range(order))
        return [("out.0", "in.0", "r"), ("r", "out.1", "in.1", *space)]

    def splits(self, shape: Sequence[int]) -> Mapping[str, Sequence[int]]:
        return {"out": balanced(shape[0], 2), "in": balanced(shape[1], 2)}

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        return chain_svd(kernel, network)
