"""Least squares between two networks: a smaller is fitted to a larger, whose kernel is not made.

The right side of each factor's least squares is the larger network's factors contracted with the
smaller's: for CP, the Hadamard product of Gram matrices between old and new factors (Kolda and
Bader 2009, section 3.4, doi:10.1137/07070111X).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..network import KernelNetwork, Modes, inner_product, plan_contraction
from .als import Target, balance, descend, plan_update, squared


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
    start = [constants.get(index, factor) for index, factor in enumerate(start)]
    updates = [plan_update(new, index) for index in new.free]
    whole = old.contraction(range(len(old.factors)), old.open_modes)
    if any(update.is_large for update in updates):
        kernel = whole(given)
        target = Target([kernel], float(squared(kernel)))
    else:
        theirs, names = apart(old)
        sizes = {**new.sizes, **{names[bond]: old.sizes[bond] for bond in old.bonds}}
        sizes |= {f"{bond}'": new.sizes[bond] for bond in new.bonds}
        updates = [
            replace(
                update,
                right=plan_contraction(
                    [*theirs, *(new.factors[i] for i in update.others)], update.modes, sizes
                ),
            )
            for update in updates
        ]
        target = Target(list(given), float(inner_product(old, given, old, given)))
    return descend(new, updates, target, start, constants, sweeps, tolerance)


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
