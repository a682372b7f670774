"""What the solvers ask of a second moment of inputs."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class SecondMoment(Protocol):
    """The second moment `M = Σ p pᵀ` of the patches that a kernel `(out, in/groups, *k)` meets."""

    patches: int  # how many were summed

    @property
    def shape(self) -> tuple[int, ...]:
        """The kernel's."""

    @property
    def matrix(self) -> Tensor:
        """`(groups, in * k…, in * k…)` in float64, rows in the order of the kernel flattened."""

    def output_error(self, kernel: Tensor, other: Tensor) -> float:
        """`‖conv(x, K) − conv(x, K̂)‖ / ‖conv(x, K)‖` over all that was seen."""
