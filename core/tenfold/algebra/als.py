"""Alternating least squares for any kernel network.

A network is linear in each of its factors, so with the others fixed the best factor solves a least
squares problem (Kolda and Bader 2009, section 3.4, doi:10.1137/07070111X, for CP). Its right side
is the kernel contracted with the others, its matrix the others contracted with themselves; both
are networks again. A small ridge, a fraction of the misfit, keeps factors from growing against
each other where a loop lets them (de Silva and Lim 2008, doi:10.1137/06066518X); it goes as the
kernel is matched, so an exact fit stays exact. The step is damped towards the present factor too
(a proximal term, Li et al. 2013, doi:10.1137/110843587), which keeps singular systems solvable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import check_generator, check_indices, check_kind, check_number, check_tensor
from ..network import GROUP, Contraction, KernelNetwork, Modes, plan_contraction
from .acceleration import accelerate
from .gauge import least_norm

DAMPING = 1e-12  # relative to the mean diagonal of the matrix
RIDGE = 1e-3  # relative to the squared misfit
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


def alternating_least_squares(
    kernel: Tensor,  # (groups, out, in, *k)
    network: KernelNetwork,  # with the mode `group`
    *,
    generator: torch.Generator | None = None,
    start: Sequence[Tensor] | None = None,
    constants: Mapping[int, Tensor] | None = None,
    sweeps: int = 100,
    tolerance: float = 1e-4,
) -> list[Tensor]:
    """Fit the factors of `network` to `kernel`, from `start` or from random normal factors.

    A sweep solves for each factor in turn, and the error never rises. Sweeps are accelerated; they
    stop after `sweeps`, or when one lowers the error by less than the fraction `tolerance` of it.
    `kernel` is `(groups, out, in, *k)`, and each factor has the axis of groups too; `generator`
    draws the random ones; `constants` are those that stay, by their indices. Kolda and Bader 2009,
    section 3.4, doi:10.1137/07070111X, for CP; any network is linear in each of its factors.

    Raises `ValueError` for a network without the mode `group`, or of another kernel, and for a
    `start` of other shapes; `TypeError` for what is no kernel, network or number.

    >>> factors = (("group", "in", "k0", "r"), ("group", "r", "out"))
    >>> network = KernelNetwork(factors, {"group": 1, "out": 8, "in": 2, "k0": 3, "r": 6})
    >>> kernel = torch.randn(1, 8, 2, 3, dtype=torch.float64)
    >>> fitted = alternating_least_squares(kernel, network)
    >>> relative_error(kernel[0], network.to_tensor(fitted)) < 1e-6
    True
    """
    check_kind("network", network, KernelNetwork)
    check_tensor("kernel", kernel)
    check_generator(generator)
    check_indices("sweeps", (sweeps,))
    check_number("tolerance", tolerance)
    wanted = tuple(network.sizes[mode] for mode in network.open_modes)
    if GROUP not in network.sizes or tuple(kernel.shape) != wanted:
        raise ValueError(
            f"kernel of shape {tuple(kernel.shape)} must have the network's open modes, "
            f"{network.open_modes} of sizes {wanted}, the first of them {GROUP!r}"
        )
    fixed = dict(constants or {})
    updates = [plan_update(network, i) for i in range(len(network.factors)) if i not in fixed]
    if start is not None and not (
        isinstance(start, Sequence)
        and [tuple(getattr(factor, "shape", ())) for factor in start] == list(network.shapes)
    ):
        raise ValueError(f"start must be factors of the network's shapes, {network.shapes}")
    if start is None:
        start = [draw(shape, kernel, generator) for shape in network.shapes]
    start = [fixed.get(index, factor) for index, factor in enumerate(start)]
    target = Target([kernel], float(squared(kernel)))
    return descend(network, updates, target, start, fixed, sweeps, float(tolerance))


def descend(
    network: KernelNetwork,
    updates: Sequence[Update],
    target: Target,
    start: Sequence[Tensor],
    fixed: Mapping[int, Tensor],
    sweeps: int,
    tolerance: float,
) -> list[Tensor]:
    """Accelerated sweeps of the updates, from `start`; the factors as balanced as they can be."""
    norm = target.energy**0.5 or 1.0
    groups = network.groups
    ridge = 0.0  # a first sweep with one might shrink all factors to nothing, and stay there

    def sweep(given: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        nonlocal ridge
        factors, misfit = list(given), 0.0
        for update in updates:
            modes = network.factors[update.index]
            there = [modes.index(mode) for mode in update.modes]
            now = factors[update.index].permute(there)
            solution, misfit = update.solve(target, [factors[i] for i in update.others], now, ridge)
            back = [update.modes.index(mode) for mode in modes]
            factors[update.index] = solution.permute(back)
        ridge = RIDGE * max(misfit, 0.0) / groups
        error = factors[0].real.new_tensor([max(misfit, 0.0) ** 0.5 / norm])
        return balance(factors, fixed), error

    found = accelerate(sweep, list(start), sweeps, tolerance).factors
    return balance(least_norm(found, network, fixed), fixed)


def balance(factors: Sequence[Tensor], constants: Collection[int] = ()) -> list[Tensor]:
    """Give the factors, with a leading axis of groups, equal norms; those of a zero one stay.

    So do `constants`, by their indices.
    """
    if constants:
        free = [factor for index, factor in enumerate(factors) if index not in constants]
        even = iter(balance(free))
        return [one if i in constants else next(even) for i, one in enumerate(factors)]
    norms = torch.stack([factor.flatten(1).norm(dim=1) for factor in factors])
    alive = norms.prod(0) > 0
    target = norms.clamp_min(torch.finfo(norms.dtype).tiny).log().mean(0).exp()
    gains = torch.where(alive, target / torch.where(alive, norms, 1.0), 1.0)
    return [
        factor * gain.reshape(-1, *(1,) * (factor.dim() - 1))
        for factor, gain in zip(factors, gains, strict=True)
    ]


def draw(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers, the same on every device for the same random state."""
    device = generator.device if generator is not None else "cpu"
    dtype = torch.complex128 if like.is_complex() else torch.float64
    drawn = torch.randn(*shape, generator=generator, dtype=dtype, device=device)
    return drawn.to(like)


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
