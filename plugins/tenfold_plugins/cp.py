"""CP: a sum of outer products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from tenfold.algebra import Descent, count_sweep, truncated_svd
from tenfold.network import KernelNetwork

from . import cp_als, cp_starts
from .tensorly_solver import TensorLySolved

NOISE = (1.0, 0.3, 0.0)  # of the starts, in turn


@dataclass(frozen=True, kw_only=True)
class CP(TensorLySolved):
    """`K[o, i, k…] = Σ_r A[o, r] B[i, r] C₀[k₀, r] …`, of one bond `r`.

    Hitchcock 1927; for convolutions Lebedev et al. 2015, arXiv 1412.6553. By accelerated
    alternating least squares from the largest terms of an exact CP, with some noise on their
    spatial factors; of a matrix, as in a linear layer, by its SVD. A small kernel has `starts` of
    differing noise, side by side: each gets a tenth of the `sweeps`, the best goes on.
    `corrections` more sweeps shrink the terms at no more error (Phan et al. 2020, arXiv
    2008.05441), which makes fine-tuning more stable still.
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
            return cp_starts.exact(kernel)
        if kernel[0].numel() == prod(kernel.shape[1:3]):
            return matrix_svd(kernel, rank)
        problem = cp_als.Problem(kernel, cp_als.work_dtype(kernel, rank))
        found = self._fitted(problem, self._starts(kernel, rank, generator))
        close = bool((found.errors < cp_als.ROUNDING).all())
        if close and problem.dtype != kernel.dtype:
            problem = cp_als.Problem(kernel, kernel.dtype)
            found = problem.descend(found.factors, self.sweeps, self.tolerance)
        factors = [factor.to(kernel) for factor in found.factors]
        for _ in range(self.corrections):
            factors = problem.correct(factors, found.errors)
            count_sweep()
        return factors

    def _starts(
        self, kernel: Tensor, rank: int, generator: torch.Generator | None
    ) -> list[list[Tensor]]:
        """The largest terms of an exact CP, disturbed; of a small kernel so many times."""
        terms = cp_starts.largest_terms(kernel.to(cp_als.work_dtype(kernel, rank)), rank)
        small = kernel.numel() * rank <= cp_als.SMALL
        levels = [NOISE[place % len(NOISE)] for place in range(self.starts if small else 1)]
        return [cp_starts.disturbed(terms, noise, generator) for noise in levels]

    def _fitted(self, problem: cp_als.Problem, starts: list[list[Tensor]]) -> Descent:
        """A tenth of the sweeps from each start, side by side; the rest for each group's best."""
        first = self.sweeps if len(starts) == 1 else max(1, self.sweeps // 10)
        stacked = [torch.stack(parts, 1).flatten(0, 1) for parts in zip(*starts, strict=True)]
        tried = problem.descend(stacked, first, self.tolerance)
        errors = tried.errors.reshape(-1, len(starts))
        best = errors.argmin(1) + torch.arange(len(errors)).to(errors.device) * len(starts)
        return problem.descend(tried.chosen(best), self.sweeps - first, self.tolerance)

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


def matrix_svd(kernel: Tensor, rank: int) -> list[Tensor]:
    """The best factors of a kernel `(groups, out, in, 1…)` without taps."""
    basis, rest = truncated_svd(kernel.flatten(2), rank)
    taps = [kernel.new_ones(len(kernel), 1, rank) for _ in kernel.shape[3:]]
    return [basis, rest.mT, *taps]
