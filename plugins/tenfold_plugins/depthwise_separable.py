"""Depthwise separable: some filters for each input channel, and a 1×1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization
from tenfold.network import KernelNetwork


class DepthwiseSeparable(Factorization):
    """`K[o, i, k…] = Σ_m A[i, k…, m] B[i, m, o]`: depthwise with multiplier `m`, then 1×1.

    Chollet 2017, arXiv 1610.02357. One matrix SVD for each input channel, the optimum; exact when
    the multiplier is the number of taps (Guo et al. 2018, arXiv 1802.00939).
    """

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        return [("in", *(f"k{axis}" for axis in range(order)), "m"), ("in", "m", "out")]

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        groups, out, channels, *taps = kernel.shape
        matrices = kernel.reshape(groups, out, channels, -1).permute(0, 2, 3, 1)
        u, s, v = torch.linalg.svd(matrices, full_matrices=False)
        kept = network.sizes["m"]
        depthwise = u[..., :kept].reshape(groups, channels, *taps, kept)
        return [depthwise, s[..., :kept, None] * v[..., :kept, :]]
