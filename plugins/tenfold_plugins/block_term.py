"""Block term: a sum of small Tuckers, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from tenfold import Factorization, Multiple, factorizations
from tenfold.algebra import alternating_least_squares
from tenfold.network import KernelNetwork, is_budget


@dataclass(frozen=True, kw_only=True)
class BlockTerm(Factorization):
    """`K = Σ_b Tucker_b` with equal ranks: 1×1, grouped k×k, 1×1, a ResNeXt block.

    The rank is `(blk, ri, ro)`; where only a budget or an int is asked for, there are `blocks`
    blocks. De Lathauwer 2008, doi:10.1137/070690729; for convolutions Chen et al. 2018, arXiv
    1802.05035. By alternating least squares from each block's Tucker of what the blocks before it
    leave.
    """

    sweeps: int = 40
    blocks: int = 2

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        space = (f"k{axis}" for axis in range(order))
        return [("blk", "in", "ri"), ("blk", "ro", "ri", *space), ("blk", "ro", "out")]

    def ranks(
        self, shape: Sequence[int], rank: Any, kernel: Tensor | None = None
    ) -> tuple[int, ...]:
        if isinstance(rank, Sequence) and not isinstance(rank, str):
            return super().ranks(shape, rank, kernel)
        blocks = self.blocks
        while True:  # fewer blocks, where the budget does not even hold so many of rank 1
            one = tucker().network(shape, share(rank, blocks))
            within = not is_budget(rank) or blocks * one.numel <= fraction(rank) * prod(shape)
            if within or blocks == 1:
                return super().ranks(shape, (blocks, one.sizes["ri"], one.sizes["ro"]))
            blocks -= 1

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        blocks, ri, ro = (network.sizes[bond] for bond in ("blk", "ri", "ro"))
        one = tucker().network(kernel.shape[1:], (ro, ri))
        left, found = kernel, []
        for _ in range(blocks):
            found.append(tucker().decompose(left, one))
            left = left - torch.einsum("goa,gib,gab...->goi...", *found[-1])
        outputs, inputs, cores = (torch.stack(parts, 1) for parts in zip(*found, strict=True))
        start = [inputs, cores, outputs.mT]
        return alternating_least_squares(
            kernel, network, start=start, sweeps=self.sweeps, tolerance=self.tolerance
        )


def tucker() -> Factorization:
    """The installed Tucker format, which makes each block."""
    return factorizations["tucker"]()


def fraction(rank: Any) -> float:
    """The fraction of the dense parameters that a budget is."""
    asked = rank.of if isinstance(rank, Multiple) else rank
    return 1.0 if isinstance(asked, str) else float(asked)


def share(rank: Any, blocks: int) -> Any:
    """What one of some blocks may ask for."""
    if not is_budget(rank):
        return rank
    each = fraction(rank) / blocks
    return Multiple(rank.base, of=each) if isinstance(rank, Multiple) else each
