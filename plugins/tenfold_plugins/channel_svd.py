"""Channel SVD: a convolution with fewer channels, and a 1×1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tenfold import Factorization
from tenfold.algebra import chain_svd
from tenfold.network import KernelNetwork


@dataclass(frozen=True, kw_only=True)
class ChannelSVD(Factorization):
    """`K[o, i, k…] = Σ_r A[i, k…, r] B[r, o]`: k×k, then 1×1; or with `space="last"` 1×1, then k×k.

    Zhang et al. 2016, arXiv 1505.06798. One matrix SVD, the optimum.
    """

    space: Literal["first", "last"] = "first"

    def __post_init__(self) -> None:
        if self.space not in ("first", "last"):
            raise ValueError(f"space={self.space!r} must be 'first' or 'last'")

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        space = tuple(f"k{axis}" for axis in range(order))
        if self.space == "first":
            return [("in", *space, "r"), ("r", "out")]
        return [("in", "r"), ("r", *space, "out")]

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        return chain_svd(kernel, network)
