"""CP matrix: a sum of Kronecker products, each of as many small matrices as the channels split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .tensorized import Tensorized


@dataclass(frozen=True, kw_only=True)
class CPMatrix(Tensorized):
    """`K = Σ_r C[k…, r] A₀[i₀, o₀, r] … A_n[i_n, o_n, r]`; a linear layer has no factor of space.

    The channels are products of `parts` numbers near each other, or as `outs` and `ins` say. Of
    rank 1 it is a matrix for each mode, a tensor contraction layer. Hameed et al. 2022, arXiv
    2109.14710, with more parts than two. By alternating least squares.
    """

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        space = [(*(f"k{axis}" for axis in range(order)), "r")] if order else []
        return [*space, *((f"in.{part}", f"out.{part}", "r") for part in range(self.parts))]
