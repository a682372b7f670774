"""CP: a sum of outer products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization, KernelNetwork, alternating_least_squares


class CP(Factorization):
    """`K[o, i, k…] = Σ_r A[o, r] B[i, r] C₀[k₀, r] …`, of one bond `r`.

    Hitchcock 1927; for convolutions Lebedev et al. 2015, arXiv 1412.6553. By alternating least
    squares from several random starts, the best of which is finished.
    """

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        return [("out", "r"), ("in", "r"), *((f"k{axis}", "r") for axis in range(order))]

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        *,
        generator: torch.Generator | None = None,
        sweeps: int = 100,
        tolerance: float = 1e-7,
        starts: int = 2,
    ) -> Sequence[Tensor]:
        """Decompose `kernel`; `starts` random starts are tried for a tenth of the `sweeps` each."""
        if network.sizes["r"] >= prod(kernel.shape[1:]) // max(kernel.shape[1:]):
            return exact(kernel)
        trials = [
            alternating_least_squares(
                kernel,
                network,
                generator=generator,
                sweeps=max(1, sweeps // 10),
                tolerance=tolerance,
            )
            for _ in range(max(1, starts))
        ]
        best = min(trials, key=lambda factors: misfit(kernel, network, factors))
        return alternating_least_squares(
            kernel, network, start=best, sweeps=sweeps, tolerance=tolerance
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
