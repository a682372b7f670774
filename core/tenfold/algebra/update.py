"""Least squares for one factor of a network, with the others fixed.

A network is linear in each of its factors, so with the others fixed the best factor solves a least
squares problem (Kolda and Bader 2009, section 3.4, doi:10.1137/07070111X, for CP). Its right side
is the kernel contracted with the others, its matrix the others contracted with themselves; both
are networks again. The step is damped towards the present factor (a proximal term, Li et al. 2013,
doi:10.1137/110843587), which keeps singular systems solvable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from ..network import Contraction, KernelNetwork, Modes, plan_contraction

DAMPING = 1e-12  # relative to the mean diagonal of the matrix
LARGEST = 1024  # the side of the largest matrix that is solved with
STEPS = 8  # of conjugate gradients, where the matrix would be larger


@dataclass(frozen=True)
class Update:
    """How to solve for one factor: its modes as (batch, free, bond), and the contractions."""

    index: int
    others: tuple[int, ...]
    modes: Modes  # of the solution: batch, free, bond
    split: tuple[int, int, int]  # the sizes of batch, free and bond
    right: Callable[[Sequence[Tensor]], Tensor]  # target, others -> (batch, free, bond)
    gram: Contraction  # others, twice -> (batch, bond, bond')
    forward: Contraction  # solution and others -> kernel

    def solve(
        self, target: Target, others: Sequence[Tensor], now: Tensor, ridge: float
    ) -> tuple[Tensor, float]:
        """A better factor than `now`, with its modes in order, and the kernel's squared misfit.

        It minimises the misfit plus `ridge` times its square; or it is some steps of conjugate
        gradients towards that where the matrix would be too large to hold.
        """
        if self.is_large:
            return self._descend(target.tensors[0], others, now, ridge)
        turned = [other.conj() for other in others]  # the same where they are real
        right = self.right([*target.tensors, *turned]).reshape(self.split)
        batch, _, bond = self.split
        gram = self.gram([*turned, *others]).reshape(batch, bond, bond)
        scale = gram.diagonal(dim1=1, dim2=2).real.mean(1)
        scale = scale.clamp_min(torch.finfo(gram.dtype).tiny ** 0.5)
        damping = max(DAMPING, 8 * torch.finfo(gram.dtype).eps) * scale[:, None, None]
        unit = torch.eye(bond, dtype=gram.dtype, device=gram.device)
        damped = gram + (damping + ridge) * unit
        towards = right + damping * now.reshape(self.split)
        solution = torch.linalg.solve(damped, towards.mT).mT
        gain = (solution.conj() * (solution @ gram.conj() - 2 * right)).sum()
        return solution.reshape(now.shape), target.energy + float(gain.real)

    @property
    def is_large(self) -> bool:
        """Whether its matrix is too large to hold, so that it needs the kernel itself."""
        return self.split[2] > LARGEST

    def _descend(
        self, kernel: Tensor, others: Sequence[Tensor], now: Tensor, ridge: float
    ) -> tuple[Tensor, float]:
        """Conjugate gradients on the normal equations, from the present factor (Hestenes and
        Stiefel 1952); the matrix is applied by contracting, and never made."""
        turned = [other.conj() for other in others]
        left = kernel - self.forward([now, *others])
        gradient = self.right([left, *turned]) - ridge * now
        direction, slope = gradient, squared(gradient)
        for _ in range(STEPS):
            if float(slope) == 0:
                break
            moved = self.forward([direction, *others])
            bent = squared(moved) + ridge * squared(direction)
            step = slope / bent.clamp_min(torch.finfo(moved.dtype).tiny)
            now, left = now + step * direction, left - step * moved
            gradient = self.right([left, *turned]) - ridge * now
            before, slope = slope, squared(gradient)
            direction = gradient + slope / before * direction
        return now, float(squared(left))


class Target(NamedTuple):
    """What is fitted: a kernel, or the factors of one that is never made; and its squared norm."""

    tensors: Sequence[Tensor]
    energy: float


def squared(tensor: Tensor) -> Tensor:
    """The sum of the squares of the elements' sizes."""
    return (tensor.conj() * tensor).sum().real


def plan_update(network: KernelNetwork, index: int) -> Update:
    """Find the contractions for the factor `index`.

    Its open modes that other factors have too index independent systems (batch); its other open
    modes are free: one right side each.
    """
    mine = network.factors[index]
    others = tuple(i for i in range(len(network.factors)) if i != index)
    theirs = [network.factors[i] for i in others]
    around = {mode for factor in theirs for mode in factor}
    bond = tuple(mode for mode in mine if mode in network.bonds)
    batch = tuple(mode for mode in mine if mode not in bond and mode in around)
    free = tuple(mode for mode in mine if mode not in bond and mode not in around)

    def primed(modes: Modes) -> Modes:
        return tuple(f"{mode}'" if mode in network.bonds else mode for mode in modes)

    sizes = {**network.sizes, **{f"{bond}'": network.sizes[bond] for bond in network.bonds}}
    modes = batch + free + bond
    size = [prod(sizes[mode] for mode in some) for some in (batch, free, bond)]
    return Update(
        index=index,
        others=others,
        modes=modes,
        split=(size[0], size[1], size[2]),
        right=plan_contraction([network.open_modes, *theirs], modes, sizes),
        gram=plan_contraction(
            [*theirs, *(primed(factor) for factor in theirs)],
            batch + bond + primed(bond),
            sizes,
        ),
        forward=plan_contraction([modes, *theirs], network.open_modes, sizes),
    )
