"""A kernel turned so that its plain decomposition is the one in a norm."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...algebra import by_group, weighted_least_squares, work_dtype
from ...network import KernelNetwork, with_group
from ...plugin import Factorization
from ...solve import decompose, fit, rounded, unfolded
from ..moments import Norm

SWEEPS = 8  # of weighted least squares, at most
WORK = 2**34  # multiply-accumulates, roughly, of them
LARGE = 2**17  # elements of a kernel or factor, from which float32 is worth it


class Turned:
    """A kernel turned for one format, so that its plain decomposition is that of the norm."""

    def __init__(self, format_: Factorization, kernel: Tensor, norm: Norm, groups: int) -> None:
        self.format, self.kernel, self.groups = format_, kernel, groups
        smallest = with_group(self.network(1, weighed=False))
        inputs = [smallest.sizes[mode] for mode in (*smallest.ins, *smallest.spatial)]
        self.whitenings = norm.whitenings(smallest.factors, inputs, smallest.constants)
        self.turned = self._turned(kernel)  # (groups, out, in, *k)
        self.inputs = inputs
        self.norm = norm

    def about(self, kernel: Tensor) -> Turned:
        """The same for another kernel."""
        made = copy.copy(self)
        made.kernel, made.turned = kernel, self._turned(kernel)
        return made

    def _turned(self, kernel: Tensor) -> Tensor:
        named = with_group(self.network(1, weighed=False))
        work = unfolded(by_group(kernel, self.groups), named)
        if kernel.numel() >= LARGE and kernel.dtype == torch.float32:
            work = work.float()
        for turning in self.whitenings:
            work = turning.turned(work, named.open_modes)
        return work.reshape(len(work), -1, *kernel.shape[1:])

    def network(self, rank: Any, weighed: bool = True) -> KernelNetwork:
        """The network for a rank, chosen by what counts in the norm."""
        kernel = self.turned if weighed and hasattr(self, "turned") else None
        return self.format.network(tuple(self.kernel.shape), rank, self.groups, kernel)

    def asked(self, rank: Any, generator: torch.Generator) -> KernelNetwork:
        """The network for any request that `from_conv` takes; raises as that does."""
        kernel = self.turned.flatten(0, 1)
        return fit(self.format, kernel, rank, self.groups, generator)[0]

    def solve(
        self, network: KernelNetwork, generator: torch.Generator, tolerance: float = 0.0
    ) -> list[Tensor]:
        """Factors of the turned kernel, by a `tolerance` of that at least."""
        format_ = replace(self.format, tolerance=max(tolerance, self.format.tolerance))
        return decompose(format_, self.turned, network, self.turned.dtype, generator)

    def restore(self, factors: Sequence[Tensor]) -> list[Tensor]:
        """Factors of the kernel from those of the turned one, in the kernel's dtype."""
        grouped = [factor if self.groups > 1 else factor[None] for factor in factors]
        grouped = [f if f.numel() >= LARGE else f.to(work_dtype(f)) for f in grouped]
        for turning in self.whitenings:
            grouped = turning.restored(grouped)
        found = [factor if self.groups > 1 else factor[0] for factor in grouped]
        return [factor.to(self.kernel.dtype).contiguous() for factor in found]

    def factors(self, network: KernelNetwork, generator: torch.Generator) -> list[Tensor]:
        """Factors of the kernel."""
        return self.restore(self.solve(network, generator))

    def rounded(
        self, network: KernelNetwork, factors: Sequence[Tensor], rank: Any
    ) -> tuple[KernelNetwork, list[Tensor]]:
        """A network of these factors with smaller bonds, for what counts in the norm."""
        new, found = rounded(self.format, network, self._forth(network, factors), rank)
        return new, self.restore(found)

    def _forth(self, network: KernelNetwork, factors: Sequence[Tensor]) -> list[Tensor]:
        """Factors of the turned kernel from those of the kernel."""
        pairs = zip(factors, with_group(network).shapes, strict=True)
        wide = work_dtype(self.turned)
        found = [factor.to(self.turned.device, wide).reshape(shape) for factor, shape in pairs]
        for turning in self.whitenings:
            found = replace(turning, inverses=turning.roots).restored(found)
        pairs = zip(found, network.shapes, strict=True)
        return [factor.reshape(shape) for factor, shape in pairs]

    @cached_property
    def seen(self) -> Tensor | None:
        """The whole moment of what the turned kernel sees, `(groups, n, n)`.

        None where it is not known, or says no more than the turning does.
        """
        whole, count = self.norm.seen.whole, self.norm.seen.count
        if whole is None or count is None or count < whole.shape[1]:
            return None
        first, *_ = self.whitenings
        if max(map(len, first.modes)) == len(self.inputs):
            return None
        return first.seen(whole, self.inputs, count)

    def refined(
        self, network: KernelNetwork, factors: Sequence[Tensor], work: int = WORK
    ) -> list[Tensor] | None:
        """Factors of the kernel, nearer to it in the norm with the whole moment.

        By so many sweeps as take `work` multiply-accumulates; None where that is not one, or where
        the whole moment says no more than the turning does.
        """
        if self.seen is None:
            return None
        sweeps = min(SWEEPS, work // (self.kernel.numel() * self.seen.shape[1]))
        if not sweeps:
            return None
        grouped = with_group(network)
        pairs = zip(self._forth(network, factors), grouped.shapes, strict=True)
        found = [factor.to(self.seen).reshape(shape) for factor, shape in pairs]
        kernel = unfolded(self.turned.to(self.seen), grouped)
        found = weighted_least_squares(kernel, grouped, found, self.seen, sweeps)
        pairs = zip(found, network.shapes, strict=True)
        return self.restore([factor.reshape(shape) for factor, shape in pairs])
