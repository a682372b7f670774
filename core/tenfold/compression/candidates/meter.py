"""What a layer loses with another kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from ..moments import Norm


class Meter:
    """Measures kernels `(out, in/groups, *k)` that are to stand for a layer's own.

    In its dtype, or float32 where that is narrower: what a decomposition leaves out is many times
    the rounding.
    """

    def __init__(self, kernel: Tensor, norm: Norm, groups: int, seed: int) -> None:
        self.kernel, self.groups = _wide(kernel), groups
        self.norm = norm.sketched(seed, self.kernel)
        self.energy = self.norm.squared(self._grouped(self.kernel))
        self.size = float(self.kernel.norm())

    def lost(self, made: Tensor) -> tuple[float, float, float]:
        """The relative errors of a kernel: in the norm, of the layer's output, and plainly."""
        gap = self.kernel - _wide(made)
        weighted, output = (
            (part / (whole or 1.0)) ** 0.5
            for part, whole in zip(self.norm.squared(self._grouped(gap)), self.energy, strict=True)
        )
        return weighted, output, float(gap.norm()) / (self.size or 1.0)

    def _grouped(self, kernel: Tensor) -> Tensor:
        return kernel.reshape(self.groups, -1, *kernel.shape[1:])


def _wide(kernel: Tensor) -> Tensor:
    return kernel if kernel.dtype == torch.float64 else kernel.float()
