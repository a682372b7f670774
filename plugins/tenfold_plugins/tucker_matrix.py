"""Tucker matrix: a small core between one factor for each pair of parts of the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .tensorized import Tensorized


@dataclass(frozen=True, kw_only=True)
class TuckerMatrix(Tensorized):
    """`K = Σ G[r₀, …, r_n, k…] A₀[i₀, o₀, r₀] … A_n[i_n, o_n, r_n]`; the core holds the space.

    The channels are products of `parts` numbers near each other, or as `outs` and `ins` say. Tucker
    1966, on the kernel as a tensor of pairs of channels, as Novikov et al. 2015, arXiv 1509.06569,
    have it for tensor trains. By alternating least squares.
    """

    parts: int = 2

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        pairs = [(f"in.{part}", f"out.{part}", f"r{part}") for part in range(self.parts)]
        space = (f"k{axis}" for axis in range(order))
        return [*pairs, (*(f"r{part}" for part in range(self.parts)), *space)]
