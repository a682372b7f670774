"""CP: a sum of outer products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization, KernelNetwork, accelerate

from . import cp_als


@dataclass(frozen=True, kw_only=True)
class CP(Factorization):
    """`K[o, i, k…] = Σ_r A[o, r] B[i, r] C₀[k₀, r] …`, of one bond `r`.

    Hitchcock 1927; for convolutions Lebedev et al. 2015, arXiv 1412.6553. By accelerated
    alternating least squares from the largest terms of an exact CP and, where the rank is below
    both channel counts (above, they were not better), from random ones, `starts` in all: each gets
    a fifth of the `sweeps`, the best the rest. `corrections` more sweeps shrink the terms at no
    more error (Phan et al. 2020, arXiv 2008.05441), which makes fine-tuning stable.
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
        if rank >= prod(kernel.shape[1:]) // max(kernel.shape[1:]):
            return cp_als.exact(kernel)
        problem = cp_als.Problem(kernel, rank)
        starts = [cp_als.largest_terms(kernel, rank)]
        if rank < min(kernel.shape[1:3]):
            starts += [cp_als.random_terms(kernel, rank, generator) for _ in range(self.starts - 1)]
        first = max(1, self.sweeps // 5)
        tried = [accelerate(problem.sweep, start, first, self.tolerance) for start in starts]
        best = min(tried, key=lambda one: one[1])[0]
        best, error, _ = accelerate(problem.sweep, best, self.sweeps - first, self.tolerance)
        if error < cp_als.ROUNDING and problem.dtype != kernel.dtype:
            problem = cp_als.Problem(kernel, rank, kernel.dtype)
            best, error, _ = accelerate(problem.sweep, best, self.sweeps, self.tolerance)
        for _ in range(self.corrections):
            best = problem.correct(best, error)
        return best
