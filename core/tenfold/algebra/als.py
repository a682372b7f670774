"""Alternating least squares for any kernel network: each factor in turn, with the others fixed.

A small ridge, a fraction of the misfit, keeps factors from growing against each other where a loop
lets them (de Silva and Lim 2008, doi:10.1137/06066518X); it goes as the kernel is matched, so an
exact fit stays exact.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from ..arguments import check_generator, check_indices, check_kind, check_number, check_tensor
from ..network import GROUP, KernelNetwork
from .acceleration import accelerate
from .gauge import least_norm
from .update import Target, Update, plan_update, squared

RIDGE = 1e-3  # relative to the squared misfit


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
