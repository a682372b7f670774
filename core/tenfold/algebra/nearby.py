"""Least squares between two networks: a smaller is fitted to a larger, whose kernel is not made.

The right side of each factor's least squares is the larger network's factors contracted with the
smaller's: for CP, the Hadamard product of Gram matrices between old and new factors (Kolda and
Bader 2009, section 3.4, doi:10.1137/07070111X).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..network import KernelNetwork, Modes, inner_product, plan_contraction
from .als import balance, descend
from .update import Target, Update, plan_update, squared


@torch.no_grad()
def fit_network(
    old: KernelNetwork,
    given: Sequence[Tensor],
    new: KernelNetwork,
    constants: Mapping[int, Tensor],
    sweeps: int,
    tolerance: float,
) -> list[Tensor]:
    """The factors of `new`, with smaller bonds than `old`, from those of `old` that carry most.

    Both have the mode `group`. The kernel is made only where a factor has too many bonds at once.
    """
    start = largest(old, balance(given, old.constants), new)
    return fit_to_sum([Part(1.0, old, given)], new, start, constants, sweeps, tolerance)


class Part(NamedTuple):
    """A network that counts so many times in a sum."""

    times: float
    network: KernelNetwork
    factors: Sequence[Tensor]


@torch.no_grad()
def fit_to_sum(
    parts: Sequence[Part],
    new: KernelNetwork,
    start: Sequence[Tensor],
    constants: Mapping[int, Tensor],
    sweeps: int,
    tolerance: float,
) -> list[Tensor]:
    """The factors of `new`, from `start`, nearest to a sum of networks of kernels of its shape.

    All have the mode `group`. The error does not rise. Where not all split their modes as `new`
    does the kernel is made.
    """
    start = [constants.get(index, factor) for index, factor in enumerate(start)]
    updates = [plan_update(new, index) for index in new.free]
    opens = new.opens
    alike = all(part.network.opens == opens for part in parts)
    if not alike or any(update.is_large for update in updates):
        wholes = (part.times * part.network.whole(part.factors) for part in parts)
        kernel = sum((one.reshape(*opens.values()) for one in wholes), torch.zeros(()))
        return descend(
            new,
            updates,
            Target([kernel], float(squared(kernel))),
            start,
            constants,
            sweeps,
            tolerance,
        )
    given = [factor for part in parts for factor in part.factors]
    updates = [replace(update, right=_rights(parts, new, update)) for update in updates]
    target = Target(given, energy(parts))
    return descend(new, updates, target, start, constants, sweeps, tolerance)


def energy(parts: Sequence[Part]) -> float:
    """The squared norm of a sum of networks."""
    return sum(
        one.times
        * other.times
        * float(inner_product(one.network, one.factors, other.network, other.factors))
        for one in parts
        for other in parts
    )


def _rights(
    parts: Sequence[Part], new: KernelNetwork, update: Update
) -> Callable[[Sequence[Tensor]], Tensor]:
    """The right side of one factor's least squares, of the parts' factors and the others."""
    plans = []
    for part in parts:
        theirs, names = apart(part.network)
        sizes = {
            **new.sizes,
            **{names[bond]: part.network.sizes[bond] for bond in part.network.bonds},
        }
        sizes |= {f"{bond}'": new.sizes[bond] for bond in new.bonds}
        mine = [*theirs, *(new.factors[i] for i in update.others)]
        plans.append(plan_contraction(mine, update.modes, sizes))

    def right(tensors: Sequence[Tensor]) -> Tensor:
        others = list(tensors[len(tensors) - len(update.others) :])
        found, at = torch.zeros(()), 0
        for part, plan in zip(parts, plans, strict=True):
            mine = list(tensors[at : at + len(part.factors)])
            found = found.to(mine[0]) + part.times * plan([*mine, *others])
            at += len(part.factors)
        return found

    return right


def apart(network: KernelNetwork) -> tuple[list[Modes], dict[str, str]]:
    """The factors with names of bonds that no other network has, and these names."""
    names = {bond: f"{bond}*" for bond in network.bonds}
    return [tuple(names.get(m, m) for m in factor) for factor in network.factors], names


def largest(old: KernelNetwork, factors: Sequence[Tensor], new: KernelNetwork) -> list[Tensor]:
    """The slices of each bond whose product of norms is largest, as many as `new` has."""
    found = list(factors)
    for bond in old.bonds:
        owners = [(i, modes.index(bond)) for i, modes in enumerate(old.factors) if bond in modes]
        size = torch.ones(old.sizes[bond], dtype=found[0].real.dtype, device=found[0].device)
        for index, axis in owners:
            size = size * found[index].movedim(axis, 0).flatten(1).norm(dim=1)
        kept = size.argsort(descending=True)[: new.sizes[bond]].sort()[0]
        for index, axis in owners:
            found[index] = found[index].index_select(axis, kept)
    return found
