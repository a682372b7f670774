"""Tucker: a small core between one matrix for each mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from tenfold.algebra import leading_basis
from tenfold.network import KernelNetwork

from . import hooi
from .tensorly_solver import TensorLySolved

LARGE = 64  # the channels from which ranks are chosen in float32, which is exact enough for it


@dataclass(frozen=True, kw_only=True)
class Tucker(TensorLySolved):
    """`K[o, i, k…] = Σ A[o, ro] B[i, ri] G[ro, ri, k…]`; the spatial modes stay whole.

    A rank for every mode, `(ro, ri, s0, …)`, gives each spatial mode a matrix `(k, s)` too, and so
    does `every`, whatever the rank.
    Tucker 1966; for convolutions Kim et al. 2016, arXiv 1511.06530. By the sequentially truncated
    higher-order SVD, then at most `sweeps` of accelerated higher-order orthogonal iteration (De
    Lathauwer et al. 2000, doi:10.1137/S0895479898346995).
    `solver="tensorly"` runs TensorLy's `partial_tucker` (`tucker` where every mode has a rank)
    instead, with `solver_options`.
    """

    sweeps: int = 30
    tolerance: float = 3e-5
    every: bool = False

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        outer: list[tuple[str, ...]] = [("out", "ro"), ("in", "ri")]
        several = isinstance(rank, Sequence) and not isinstance(rank, str)
        if order and (self.every or (several and len(rank) == order + 2)):
            outer += [(f"k{axis}", f"s{axis}") for axis in range(order)]
            return [*outer, ("ro", "ri", *(f"s{axis}" for axis in range(order)))]
        return [*outer, ("ro", "ri", *(f"k{axis}" for axis in range(order)))]

    def for_tensors(self) -> Tucker:
        return replace(self, every=True)

    def ranks(
        self, shape: Sequence[int], rank: Any, kernel: Tensor | None = None
    ) -> tuple[int, ...]:
        """Choose `(ro, ri)`; for a fraction of a kernel, the pair on the budget that keeps most."""
        if isinstance(rank, str) and rank == "same":
            rank = 1.0
        if self.every or kernel is None or not isinstance(rank, float):
            return super().ranks(shape, rank, kernel)
        proportional = super().ranks(shape, rank)
        budget = max(rank * prod(shape), cost(shape, *proportional))
        kept = kept_energy(kernel).tolist()
        best = max(
            ((kept[ro - 1][ri - 1], -ro, ri) for ro, ri in frontier(shape, budget)), default=None
        )
        return proportional if best is None else super().ranks(shape, (-best[1], best[2]))

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        if self.solver != "tenfold":
            return self._by_tensorly(kernel, network, generator)
        ranks = [network.sizes[bond] for bond in network.bonds]
        bases, core = hooi.decompose(kernel, ranks, self.sweeps, self.tolerance)
        return [*bases, core]

    def _by_tensorly(
        self, kernel: Tensor, network: KernelNetwork, generator: torch.Generator | None
    ) -> list[Tensor]:
        rank = [network.sizes[bond] for bond in network.bonds]
        if len(rank) == kernel.dim() - 1 or self.solver != "tensorly":
            found = self.by_tensorly("tucker", kernel, rank, generator)
        else:  # which returns its errors too, from TensorLy 0.9 on
            parts = self.by_tensorly("partial_tucker", kernel, rank, generator, modes=[0, 1])
            found = [one if isinstance(one[0], Tensor) else one[0] for one in parts]
        cores, bases = zip(*found, strict=True)
        outer = [torch.stack(parts) for parts in zip(*bases, strict=True)]
        return [*outer, torch.stack(cores)]


def kept_energy(kernel: Tensor) -> Tensor:
    """What each `(ro, ri)` keeps of `‖K‖²` by the higher-order SVD: entry `(ro - 1, ri - 1)`.

    Its core's squares, summed from the corner; the kernel is `(groups, out, in, *k)`.
    """
    large = max(kernel.shape[1:3]) >= LARGE
    core = kernel = kernel.float() if large else kernel
    for mode in (1, 2):
        unfolded = hooi.unfold(kernel, mode)
        basis = leading_basis(unfolded, min(unfolded.shape[1:]))
        core = hooi.project(core, mode, basis)
    squares = core.flatten(3).square().sum((0, 3)) if core.dim() > 3 else core.square().sum(0)
    return squares.cumsum(0).cumsum(1)


def cost(shape: Sequence[int], ro: int, ri: int) -> int:
    """The parameters of Tucker-2."""
    return shape[0] * ro + shape[1] * ri + ro * ri * prod(shape[2:])


def frontier(shape: Sequence[int], budget: float) -> list[tuple[int, int]]:
    """Each `ro` with the largest `ri` that the budget allows."""
    taps = prod(shape[2:])
    most_out, most_in = min(shape[0], shape[1] * taps), min(shape[1], shape[0] * taps)
    pairs = []
    for ro in range(1, most_out + 1):
        ri = min(most_in, int((budget - shape[0] * ro) // (shape[1] + ro * taps)))
        if ri >= 1 and cost(shape, ro, ri) <= budget:
            pairs.append((ro, ri))
    return pairs
