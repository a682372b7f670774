"""Alternating least squares in the norm of what a layer sees: `E‖(K − K̂) x‖²`, for any network.

The output's error is quadratic in each factor, with the inputs' second moment `M` between the
factor's normal equations. Where those are small they are solved; else some steps of conjugate
gradients, preconditioned by the equations without the moment, lower the error, with `M` applied and
nothing larger made (Hestenes and Stiefel 1952). No step raises the error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ..network import GROUP, OUT, Contraction, KernelNetwork, Modes, plan_contraction
from .acceleration import count_sweep
from .als import balance
from .second_moment import SecondMoment
from .update import plan_update

STEPS = 4  # of conjugate gradients for a factor
DIRECT = 512  # the side of the largest normal equations that are made
DAMPING = 1e-4  # of the preconditioner, relative to its mean diagonal
FLOOR = {4: 1e-6, 8: 1e-12}  # of the normal equations, likewise, by the bytes of a real number
LARGE = 1024  # the moment's side from which float32 is worth it
MOST = 2**33  # multiply-accumulates of a kernel times its moment: some seconds for all


def affordable(moment: SecondMoment, kernel: Tensor) -> bool:
    """Whether the whole moment of a kernel `(out, in/groups, *k)` is worth its time.

    It has to be applied many times over; and one of fewer patches than it has rows says little of
    what its marginals do not: on held-out inputs nothing was gained.
    """
    side = moment.matrix.shape[-1]
    return moment.patches >= side and kernel.numel() * side <= MOST


def weighted_least_squares(
    kernel: Tensor,  # (groups, out, in, *k)
    network: KernelNetwork,  # with the mode `group`
    factors: Sequence[Tensor],
    moment: Tensor,  # (groups, in * k…, in * k…)
    sweeps: int = 8,
    tolerance: float = 1e-2,
) -> list[Tensor]:
    """Lower `tr((K − K̂) M (K − K̂)ᴴ)` from some factors, a factor at a time, but constants.

    It stops after `sweeps`, or when one lowers the error by less than the fraction `tolerance`; one
    that raises it, as rounding may where the moment is singular, is not kept.
    """
    narrow = torch.complex64 if kernel.is_complex() else torch.float32
    dtype = narrow if moment.shape[-1] >= LARGE else kernel.dtype
    problem = Problem.of(kernel.to(dtype), moment.to(dtype))
    best = [factor.to(dtype) for factor in factors]
    error = problem.error(network, best)
    for _ in range(sweeps):
        count_sweep()
        found = list(best)
        for index in network.free:
            found[index] = _narrowed(problem, network, found, index)
        found = balance(found, network.constants)
        before, after = error, problem.error(network, found)
        if after <= before:
            best, error = found, after
        if not after < (1 - tolerance) * before:
            break
    return [factor.to(kernel) for factor in best]


@dataclass(frozen=True)
class Problem:
    """A kernel `(groups, out, in, *k)` and the moment; `weighed` is the one times the other."""

    kernel: Tensor
    weighed: Tensor
    moment: Tensor

    @classmethod
    def of(cls, kernel: Tensor, moment: Tensor) -> Problem:
        return cls(kernel, weigh(kernel, moment), moment)

    def narrowed(self, basis: Tensor) -> Problem:
        """The same in the span of a basis `(groups, out, rank)` of the outputs."""
        shape = (len(self.kernel), -1, *self.kernel.shape[2:])
        kernel, weighed = ((basis.mH @ one.flatten(2)) for one in (self.kernel, self.weighed))
        return Problem(kernel.reshape(shape), weighed.reshape(shape), self.moment)

    def error(self, network: KernelNetwork, factors: Sequence[Tensor]) -> float:
        """`tr((K − K̂) M (K − K̂)ᴴ)`."""
        gap = self.kernel - network.to_tensor(factors).reshape(self.kernel.shape)
        return max(0.0, inner(gap, weigh(gap, self.moment)))


def inner(one: Tensor, other: Tensor) -> float:
    """The inner product of two tensors, its real part."""
    return float((one.conj() * other).sum().real)


def weigh(kernel: Tensor, moment: Tensor) -> Tensor:
    """`K M`."""
    rows = kernel.reshape(len(kernel), -1, moment.shape[-1])
    return (rows @ moment).reshape(kernel.shape)


def _narrowed(
    problem: Problem, network: KernelNetwork, factors: Sequence[Tensor], index: int
) -> Tensor:
    """Solve for a factor, in fewer outputs where another factor, which alone has them, mixes them.

    Of a factor `Q R` with the outputs on one side, the others see `Qᵀ K` and `R` alone.
    """
    owners = [place for place, modes in enumerate(network.factors) if OUT in modes]
    for place, modes in enumerate(network.factors):
        bonds = [mode for mode in modes if mode not in (GROUP, OUT)]
        rank = prod(network.sizes[mode] for mode in bonds)
        leaf = owners == [place] and all(mode in network.bonds for mode in bonds)
        free = leaf and place not in network.constants
        if free and place != index and rank < network.sizes[OUT]:
            order = (GROUP, OUT, *bonds)
            flat = factors[place].permute([modes.index(mode) for mode in order]).flatten(2)
            basis, mixed = torch.linalg.qr(flat)
            fewer = KernelNetwork(network.factors, {**network.sizes, OUT: rank})
            core = mixed.reshape(len(flat), rank, *(network.sizes[mode] for mode in bonds))
            inner = list(factors)
            inner[place] = core.permute([order.index(mode) for mode in modes])
            return _solved(problem.narrowed(basis), fewer, inner, index)
    return _solved(problem, network, factors, index)


def _solved(
    problem: Problem, network: KernelNetwork, factors: Sequence[Tensor], index: int
) -> Tensor:
    """A better factor, the others fixed."""
    mine = network.factors[index]
    theirs = [modes for place, modes in enumerate(network.factors) if place != index]
    others = [factor for place, factor in enumerate(factors) if place != index]
    around = {mode for modes in theirs for mode in modes}
    coupled = tuple(mode for mode in mine if mode != GROUP and not (mode == OUT not in around))
    size = prod(network.sizes[mode] for mode in coupled)
    if size <= DIRECT and OUT in mine and OUT not in around:
        return _direct(problem, network, mine, coupled, (theirs, others))
    return _descended(problem, network, index, factors[index], others)


def _direct(
    problem: Problem,
    network: KernelNetwork,
    mine: Modes,
    coupled: Modes,
    around: tuple[Sequence[Modes], Sequence[Tensor]],
) -> Tensor:
    """The least squares solution for a factor that alone has the outputs.

    With `Z` the others as a matrix `(coupled, inputs)`: `X (Z M Zᴴ) = K M Zᴴ`.
    """
    theirs, others = list(around[0]), list(around[1])
    inputs = (*network.ins, *network.spatial)
    own = [mode for mode in coupled if mode in inputs]
    copies = {mode: f"{mode}'" for mode in own}  # an input mode of the factor's own, once more
    groups = network.sizes[GROUP]
    for mode in own:
        one = torch.eye(network.sizes[mode], dtype=problem.kernel.dtype).to(problem.kernel.device)
        theirs.append((GROUP, copies[mode], mode))
        others.append(one.expand(groups, -1, -1))
    sizes = {**network.sizes, **{copies[mode]: network.sizes[mode] for mode in own}}
    rows = tuple(copies.get(mode, mode) for mode in coupled)
    made = plan_contraction(theirs, (GROUP, *rows, *inputs), sizes)(others)
    z = made.reshape(groups, prod(sizes[mode] for mode in rows), -1)
    normal = z @ problem.moment @ z.mH
    right = problem.weighed.flatten(2) @ z.mH
    diagonal = normal.diagonal(dim1=1, dim2=2).real
    scale = diagonal.mean(1).clamp_min(1e-30) * FLOOR[diagonal.element_size()]
    normal.diagonal(dim1=1, dim2=2).add_(scale[:, None])
    solution: Tensor = torch.linalg.solve(normal.mT, right.mT).mT
    order = (GROUP, OUT, *coupled)
    shaped = solution.reshape([network.sizes[mode] for mode in order])
    return shaped.permute([order.index(mode) for mode in mine])


def _descended(
    problem: Problem, network: KernelNetwork, index: int, now: Tensor, others: Sequence[Tensor]
) -> Tensor:
    """Some steps of preconditioned conjugate gradients."""
    update = plan_update(network, index)
    there = [network.factors[index].index(mode) for mode in update.modes]
    back = [update.modes.index(mode) for mode in network.factors[index]]
    turned = [other.conj() for other in others]  # the same where they are real
    precondition = _preconditioner(update.gram, update.split, others)
    x = now.permute(there)
    left = problem.weighed - weigh(update.forward([x, *others]), problem.moment)
    gradient = update.right([left, *turned])
    towards = precondition(gradient)
    direction, slope = towards, inner(gradient, towards)
    for _ in range(STEPS):
        moved = weigh(update.forward([direction, *others]), problem.moment)
        bent = update.right([moved, *turned])
        curve = inner(direction, bent)
        if not curve > 0 or not slope > 0:
            break
        step = slope / curve
        x, gradient = x + step * direction, gradient - step * bent
        towards = precondition(gradient)
        before, slope = slope, inner(gradient, towards)
        direction = towards + slope / before * direction
    return x.permute(back)


def _preconditioner(
    gram: Contraction, split: tuple[int, int, int], others: Sequence[Tensor]
) -> Callable[[Tensor], Tensor]:
    """The inverse of a factor's normal equations without the moment."""
    batch, _, bond = split
    if bond > 2 * DIRECT:
        return lambda gradient: gradient
    matrix = gram([*(other.conj() for other in others), *others]).reshape(batch, bond, bond)
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    matrix = matrix + torch.diag_embed(
        (DAMPING * diagonal.mean(1, keepdim=True) + 1e-30).expand_as(diagonal)
    )
    root, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed.any()):
        return lambda gradient: gradient
    return lambda gradient: torch.cholesky_solve(gradient.reshape(split).mT, root).mT.reshape(
        gradient.shape
    )
