"""Hadamard: the elementwise product of two low-rank kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization
from tenfold.algebra import alternating_least_squares, chain_svd
from tenfold.network import KernelNetwork


class Hadamard(Factorization):
    """`K = K₁ ∘ K₂`, each a channel SVD: of ranks `r` and `s` the product has rank up to `r s`.

    Hyeon-Woo et al. 2022 (FedPara), arXiv 2108.06098; LoHa in PEFT. By alternating least squares
    from a channel SVD of rank `r` times ones, which the second kernel starts from with some noise.
    """

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        space = [f"k{axis}" for axis in range(order)]
        return [("in", *space, "r"), ("r", "out"), ("in", *space, "s"), ("s", "out")]

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        sizes = {mode: size for mode, size in network.sizes.items() if mode != "s"}
        first = chain_svd(kernel, KernelNetwork(network.factors[:2], sizes))
        second = [torch.zeros(shape).to(kernel) for shape in network.shapes[2:]]
        second[0][..., 0], second[1][:, 0] = 1, 1
        device = kernel.device if generator is None else generator.device
        for factor in second:
            noise = torch.randn(factor.shape, generator=generator, device=device)
            factor += 0.1 * noise.to(factor)
        return alternating_least_squares(
            kernel,
            network,
            start=[*first, *second],
            sweeps=self.sweeps,
            tolerance=self.tolerance,
        )
