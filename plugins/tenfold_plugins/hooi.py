"""The higher-order SVD of kernels, and the iteration that improves it.

De Lathauwer, De Moor and Vandewalle 2000, doi:10.1137/S0895479898346995; its start truncates one
mode after another (Vannieuwenhoven et al. 2012, doi:10.1137/110836067).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tenfold.algebra import Descent, accelerate, count_sweep, leading_basis

ROUNDING = 0.1  # the error above which float32 is exact enough to tell one sweep from the next
AHEAD = 3  # the momentum to begin with, in sweeps: the start is near


class Problem:
    """A kernel unfolded at each mode to be reduced, the first ones behind its groups."""

    def __init__(self, kernel: Tensor, ranks: Sequence[int]) -> None:
        self.kernel, self.ranks = kernel, ranks
        self.modes = range(1, len(ranks) + 1)
        self.unfolded = {mode: unfold(kernel, mode).contiguous() for mode in self.modes}
        self.energy = kernel.square().flatten(1).sum(1)  # (groups,)

    def truncated(self) -> tuple[list[Tensor], Tensor]:
        """The bases `(groups, size, rank)`, each of what those before it leave, and the core."""
        bases: list[Tensor] = []
        core = self.kernel
        for mode, rank in zip(self.modes, self.ranks, strict=True):
            bases.append(leading_basis(unfold(core, mode), rank))
            core = project(core, mode, bases[-1])
        return bases, core

    def swept(self, others: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Every basis found anew, from the `others` than the first on, and the core."""
        bases = dict(zip(self.modes[1:], others, strict=True))
        for mode, rank in zip(self.modes, self.ranks, strict=True):
            seen = self._seen(bases, mode)
            bases[mode] = leading_basis(unfold(seen, mode), rank)
        return [bases[mode] for mode in self.modes], project(seen, mode, bases[mode])

    def completed(self, others: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The first basis found from the `others`, before them, and the core."""
        seen = self._seen(dict(zip(self.modes[1:], others, strict=True)), 1)
        first = leading_basis(unfold(seen, 1), self.ranks[0])
        return [first, *others], project(seen, 1, first)

    def errors(self, core: Tensor) -> Tensor:
        """The relative error of each group, `(groups,)`, no less than rounding lets it be known."""
        kept = core.square().flatten(1).sum(1)
        least = 10 * torch.finfo(core.dtype).eps
        return (1 - kept / self.energy.clamp_min(1e-30)).clamp_min(least).sqrt()

    def descend(self, others: Sequence[Tensor], sweeps: int, tolerance: float) -> list[Tensor]:
        """Accelerated sweeps from the bases of all modes but the first, which follows from them.

        A basis goes on from the last one column by column: both are sorted by what they keep, and
        their signs are fixed.
        """

        def sweep(given: list[Tensor]) -> tuple[list[Tensor], Tensor]:
            found, core = self.swept([torch.linalg.qr(basis)[0] for basis in given])
            return found[1:], self.errors(core)

        start = Descent.of(others)
        start = replace(start, steps=start.steps + AHEAD)
        return accelerate(sweep, start, sweeps, tolerance).factors

    def _seen(self, bases: Mapping[int, Tensor], mode: int) -> Tensor:
        """The kernel projected on the bases of all modes but one."""
        first, *others = (other for other in self.modes if other != mode)
        seen = fold(bases[first].mT @ self.unfolded[first], first, self.kernel.shape)
        for other in others:
            seen = project(seen, other, bases[other])
        return seen


def decompose(
    kernel: Tensor,  # (groups, size, …)
    ranks: Sequence[int],
    sweeps: int,
    tolerance: float,
) -> tuple[list[Tensor], Tensor]:
    """Bases `(groups, size, rank)` of the first modes, and the core, in the kernel's dtype."""
    problem = Problem(kernel, ranks)
    bases, core = problem.truncated()
    exact = all(rank >= kernel.shape[mode] for mode, rank in zip(problem.modes, ranks, strict=True))
    if sweeps == 0 or exact:
        return bases, core
    coarse = problem
    if kernel.dtype != torch.float32 and bool((problem.errors(core) > ROUNDING).all()):
        coarse = Problem(kernel.float(), ranks)
    start = [basis.to(coarse.kernel) for basis in bases[1:]]
    found = coarse.descend(start, sweeps - 1, tolerance)
    count_sweep()
    return problem.completed([torch.linalg.qr(basis.to(kernel))[0] for basis in found])


def unfold(tensor: Tensor, mode: int) -> Tensor:
    """One mode of `(groups, …)` before all others: `(groups, size, others)`."""
    return tensor.movedim(mode, 1).flatten(2)


def fold(rows: Tensor, mode: int, shape: Sequence[int]) -> Tensor:
    """What `unfold` made of a tensor of this `shape`, but for the mode's size, as it was."""
    rest = [size for axis, size in enumerate(shape) if axis not in (0, mode)]
    return rows.reshape(len(rows), -1, *rest).movedim(1, mode)


def project(tensor: Tensor, mode: int, basis: Tensor) -> Tensor:
    """Contract one mode of `(groups, …)` with `(groups, size, rank)`."""
    return fold(basis.mT @ unfold(tensor, mode), mode, tensor.shape)
