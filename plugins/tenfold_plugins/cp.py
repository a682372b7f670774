"""CP: a sum of outer products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization, KernelNetwork, alternating_least_squares


@dataclass(frozen=True, kw_only=True)
class CP(Factorization):
    """`K[o, i, k…] = Σ_r A[o, r] B[i, r] C₀[k₀, r] …`, of one bond `r`.

    Hitchcock 1927; for convolutions Lebedev et al. 2015, arXiv 1412.6553. By alternating least
    squares: each of `starts` random starts is tried for a tenth of the `sweeps`, and the best of
    them finished.
    """

    starts: int = 2

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        return [("out", "r"), ("in", "r"), *((f"k{axis}", "r") for axis in range(order))]

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        if network.sizes["r"] >= prod(kernel.shape[1:]) // max(kernel.shape[1:]):
            return exact(kernel)
        trials = [
            alternating_least_squares(
                kernel,
                network,
                generator=generator,
                sweeps=max(1, self.sweeps // 10),
                tolerance=self.tolerance,
            )
            for _ in range(max(1, self.starts))
        ]
        best = min(trials, key=lambda factors: misfit(kernel, network, factors))
        return alternating_least_squares(
            kernel, network, start=best, sweeps=self.sweeps, tolerance=self.tolerance
        )


def misfit(kernel: Tensor, network: KernelNetwork, factors: Sequence[Tensor]) -> float:
    """`‖kernel − network‖_F`."""
    return float((kernel - network.to_tensor(factors).reshape(kernel.shape)).norm())


def exact(kernel: Tensor) -> list[Tensor]:
    """The exact CP of any kernel: one term for each fibre along its largest mode.

    That mode's factor holds the fibres; the others' columns are unit vectors that place them.
    """
    groups, *sizes = kernel.shape
    largest = sizes.index(max(sizes))
    others = [size for mode, size in enumerate(sizes) if mode != largest]
    places = iter(torch.cartesian_prod(*map(torch.arange, others)).reshape(-1, len(others)).T)
    factors = []
    for mode, size in enumerate(sizes):
        if mode == largest:
            factors.append(kernel.movedim(mode + 1, 1).reshape(groups, size, -1))
        else:
            unit = torch.eye(size, dtype=kernel.dtype)[next(places)].T.to(kernel.device)
            factors.append(unit.expand(groups, -1, -1).clone())
    return factors
