"""Spatial SVD: one convolution along each axis, every channel with every other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization
from tenfold.algebra import chain_svd
from tenfold.network import KernelNetwork


class SpatialSVD(Factorization):
    """`K[o, i, k0, k1] = Σ_r A[i, k0, r] B[r, k1, o]`: k×1, then 1×k.

    Jaderberg et al. 2014, scheme 2, arXiv 1405.3866. Of order 2 it is one matrix SVD, the optimum;
    of order 3 and more a chain of them; below order 2, where there is no second axis, the last
    factor holds the output alone.
    """

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        links = max(order, 2) - 1
        bonds = ["r"] if links == 1 else [f"r{link}" for link in range(links)]
        first = ("in", *(["k0"] if order else []), bonds[0])
        middle = [(bonds[a - 1], f"k{a}", bonds[a]) for a in range(1, links)]
        last = (bonds[-1], *([f"k{order - 1}"] if order > 1 else []), "out")
        return [first, *middle, last]

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        return chain_svd(kernel, network)
