"""TT matrix: a tensor train whose factors hold a part of the input and of the output each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tenfold.algebra import chain_svd
from tenfold.network import KernelNetwork

from .tensorized import Tensorized


@dataclass(frozen=True, kw_only=True)
class TTMatrix(Tensorized):
    """`K = Σ G₀[k…, b0] G₁[b0, i₀, o₀, b1] … G_n[b_n-1, i_n-1, o_n-1]`: space, then channels.

    The channels are products of `parts` numbers near each other, or as `outs` and `ins` say; a
    linear layer has no factor of space. Novikov et al. 2015, arXiv 1509.06569; for convolutions
    Garipov et al. 2016, arXiv 1611.03214. By its TT-SVD (Oseledets 2011, doi:10.1137/090752286),
    within `√(bonds)` of the best.
    """

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        space = [(*(f"k{axis}" for axis in range(order)), "b0")] if order else []
        cores = []
        for part in range(self.parts):
            before = (f"b{part}",) if part or order else ()
            after = (f"b{part + 1}",) if part + 1 < self.parts else ()
            cores.append((*before, f"in.{part}", f"out.{part}", *after))
        return [*space, *cores]

    def decompose(
        self,
        kernel: Tensor,
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        return chain_svd(kernel, network)
