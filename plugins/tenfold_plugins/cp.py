"""CP: a sum of outer products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from tenfold import KernelNetwork, count_sweep

from . import cp_als
from .tensorly_solver import TensorLySolved


@dataclass(frozen=True, kw_only=True)
class CP(TensorLySolved):
    """`K[o, i, k…] = Σ_r A[o, r] B[i, r] C₀[k₀, r] …`, of one bond `r`.

    Hitchcock 1927; for convolutions Lebedev et al. 2015, arXiv 1412.6553. By accelerated
    alternating least squares from the largest terms of an exact CP and from random ones, `starts`
    in all. A small kernel is fitted from each with all `sweeps`; of a large one each start gets a
    fifth, the best the rest, and above the channels' number, where random ones were not better,
    the first is the only one. `corrections` more sweeps shrink the terms at no more error (Phan et
    al. 2020, arXiv 2008.05441), which makes fine-tuning more stable still.
    `solver="tensorly"` runs TensorLy's `parafac` instead, and `"tensorly:non_negative_parafac"`
    that function of its, with `solver_options`.
    """

    starts: int = 3
    corrections: int = 0

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        return [("out", "r"), ("in", "r"), *((f"k{axis}", "r") for axis in range(order))]

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        rank = network.sizes["r"]
        if self.solver != "tenfold":
            return self._by_tensorly(kernel, rank, generator)
        if rank >= prod(kernel.shape[1:]) // max(kernel.shape[1:]):
            return cp_als.exact(kernel)
        problem = cp_als.Problem(kernel, rank)
        starts = [cp_als.largest_terms(kernel, rank)]
        small = kernel.numel() * rank <= cp_als.LARGE
        if small or rank < min(kernel.shape[1:3]):
            starts += [cp_als.random_terms(kernel, rank, generator) for _ in range(self.starts - 1)]
        first = self.sweeps if small else max(1, self.sweeps // 5)
        tried = [problem.descend(start, first, self.tolerance) for start in starts]
        best, error, _ = min(tried, key=lambda one: one[1])
        if first < self.sweeps:
            best, error, _ = problem.descend(best, self.sweeps - first, self.tolerance, error)
        if error < cp_als.ROUNDING and problem.dtype != kernel.dtype:
            problem = cp_als.Problem(kernel, rank, kernel.dtype)
            best, error, _ = problem.descend(best, self.sweeps, self.tolerance, error)
        for _ in range(self.corrections):
            best = problem.correct(best, error)
            count_sweep()
        return best

    def _by_tensorly(
        self, kernel: Tensor, rank: int, generator: torch.Generator | None
    ) -> list[Tensor]:
        found = self.by_tensorly("parafac", kernel, rank, generator)
        stacked = [
            torch.stack(parts) for parts in zip(*(one.factors for one in found), strict=True)
        ]
        weights = [one.weights for one in found]
        if weights[0] is not None:
            stacked[0] = stacked[0] * torch.stack(weights)[:, None]
        return stacked
