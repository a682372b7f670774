"""What a layer loses with another kernel."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ..moments import Norm
from .fitting import Fitted, Source
from .sketched import Sketched
from .turned import LARGE


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
        self.truncated: Source | None = None  # what was truncated last
        self.sketched: Sketched | None = None

    def lost(self, made: Tensor) -> tuple[float, float, float]:
        """The relative errors of a kernel: in the norm, of the layer's output, and plainly."""
        gap = self.kernel - _wide(made)
        squares = self.norm.squared(self._grouped(gap))
        return (*self._relative(squares), float(gap.norm()) / (self.size or 1.0))

    def lost_by(self, fitted: Fitted) -> tuple[float, float, float | None]:
        """Those of a decomposition; of a truncation of a large one without the last.

        The kernel of such a one is not made.
        """
        sketch, truncated = self.norm.seen.sketch, fitted.truncated
        if truncated is None or sketch is None or self.kernel.numel() < LARGE:
            return self.lost(fitted.network.to_tensor(fitted.factors))
        if self.sketched is None or truncated is not self.truncated:
            self.truncated, self.sketched = truncated, Sketched(*truncated, sketch)
        gap = self.wanted - self.sketched.rows(fitted.network)
        return (*self._relative(self.norm.squares(gap, gap)), None)

    @cached_property
    def wanted(self) -> Tensor:
        """What the layer's own kernel makes of the sketch."""
        assert self.norm.seen.sketch is not None
        return self._grouped(self.kernel).flatten(2) @ self.norm.seen.sketch

    def _relative(self, squares: tuple[float, float]) -> tuple[float, float]:
        pairs = zip(squares, self.energy, strict=True)
        weighted, output = ((part / (whole or 1.0)) ** 0.5 for part, whole in pairs)
        return weighted, output

    def _grouped(self, kernel: Tensor) -> Tensor:
        return kernel.reshape(self.groups, -1, *kernel.shape[1:])


def _wide(kernel: Tensor) -> Tensor:
    return kernel if kernel.dtype == torch.float64 else kernel.float()
