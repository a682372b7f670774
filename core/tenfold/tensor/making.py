"""From a shape or a tensor to a network whose open modes are its axes.

The modes of a format are named for a kernel; what they are called is all the same here. The axes of
a tensor are the open modes in the order in which the format's factors name them: a tensor train is
the chain of its axes, first to last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from ..arguments import check_tensor
from ..network import IN, OUT, KernelNetwork, KernelSum, Modes, is_budget, spatial_modes, spend
from ..plugin import Choice, Factorization, ask, factorizations
from ..solve import check_finite, fit, structure, with_options

Made = tuple[Choice[Factorization], KernelNetwork, Modes]  # the mode that each axis is


class Dense(Factorization):
    """The tensor itself: one factor that has every mode."""

    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        return [(OUT, IN, *spatial_modes(order))]


def chosen(factorization: Any) -> Choice[Factorization]:
    """The format asked for, as it is for tensors; `"dense"` is none. Raises as a registry does."""
    if isinstance(factorization, str) and factorization.lower() == "dense":
        return Choice("dense", "'dense'", Dense())
    found = factorizations.choose(factorization)
    return Choice(found.name, found.spelled, found.plugin.for_tensors())


def format_of(factorization: Any) -> Factorization:
    """The format that is meant, for tensors; raises as a registry does."""
    return chosen(factorization).plugin


def structured(shape: Sequence[int], rank: Any, factorization: Any, fixed: Any) -> Made:
    """The format, its network and the name of each axis there, for a tensor of `shape`."""
    sizes, choice = checked_shape(shape), chosen(factorization)
    names = named(choice.plugin, len(sizes))
    kernel = kernel_shape(names, sizes)
    asked = with_fixed(choice.plugin, kernel, rank, checked_fixed(fixed, len(sizes)), names)
    network = structure(choice.plugin, kernel, asked, 1, None)
    return choice, network, names[: len(sizes)]


def decomposed(
    tensor: Tensor,
    rank: Any,
    factorization: Any,
    fixed: Any,
    options: Mapping[str, Any] | None,
    generator: torch.Generator | None,
) -> tuple[Made, Sequence[Tensor]]:
    """The same for the values of a tensor, and its factors."""
    check_finite(check_tensor("tensor", tensor))
    sizes, choice = checked_shape(tuple(tensor.shape)), chosen(factorization)
    plugin = with_options(choice.plugin, options)
    names = named(plugin, len(sizes))
    shape = kernel_shape(names, sizes)
    asked = with_fixed(plugin, shape, rank, checked_fixed(fixed, len(sizes)), names)
    kernel = as_kernel(tensor.detach(), names)
    network, factors = (
        (structure(plugin, shape, asked, 1, None), [kernel.clone()])
        if isinstance(plugin, Dense)
        else fit(plugin, kernel, asked, 1, generator)
    )
    return (choice, network, names[: len(sizes)]), factors


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Refuse what is no shape of at least one axis; raises `ValueError` or `TypeError`."""
    if not isinstance(shape, Sequence) or isinstance(shape, str | bytes):
        raise TypeError(f"shape={shape!r} must be a tuple of ints")
    whole = all(isinstance(size, Integral) and not isinstance(size, bool) for size in shape)
    if not shape or not whole or min(shape) < 1:
        raise ValueError(f"shape={tuple(shape)} must be one or more ints of at least 1")
    return tuple(int(size) for size in shape)


def checked_fixed(fixed: Any, count: int) -> tuple[int, ...]:
    """Refuse what are no axes of a tensor; raises `ValueError` or `TypeError`."""
    if fixed is None:
        return ()
    several = isinstance(fixed, Sequence) and not isinstance(fixed, str | bytes)
    if not several or not all(isinstance(axis, Integral) for axis in fixed):
        raise TypeError(f"fixed_rank_modes={fixed!r} must be axes of the tensor, as (0, 1)")
    if not all(-count <= axis < count for axis in fixed):
        raise ValueError(f"fixed_rank_modes={tuple(fixed)} must be of its {count} axes")
    return tuple(axis % count for axis in fixed)


def named(plugin: Factorization, count: int) -> Modes:
    """The open modes as the format's factors name them, unsplit; two where there is one axis."""
    order = max(count - 2, 0)
    opens = (OUT, IN, *spatial_modes(order))
    factors = ask(plugin.factors, order, 1)
    parts = (part for modes in factors for mode in modes for part in mode.split("."))
    return tuple(part for part in dict.fromkeys(parts) if part in opens)


def kernel_shape(names: Modes, sizes: Sequence[int]) -> tuple[int, ...]:
    """The shape of the kernel that has these axes; one of size 1 beside a single axis."""
    place = dict(zip(names, (*sizes, 1), strict=False))
    return tuple(place[name] for name in (OUT, IN, *spatial_modes(len(names) - 2)))


def as_kernel(tensor: Tensor, names: Modes) -> Tensor:
    """The tensor with its axes in the order of that kernel's."""
    whole = tensor.unsqueeze(-1) if tensor.dim() < 2 else tensor
    return whole.permute(
        [names.index(name) for name in (OUT, IN, *spatial_modes(len(names) - 2))]
    ).contiguous()


def axes_of(network: KernelNetwork, names: Modes) -> tuple[Modes, ...]:
    """The modes of the axes of these names: several where the network splits one."""
    order = spatial_modes(network.order)
    parts = dict(zip((OUT, IN, *order), (network.outs, network.ins, *network.axes), strict=True))
    return tuple(parts[name] for name in names)


def keep_whole(plugin: Factorization, shape: tuple[int, ...], rank: Any, fixed: Any) -> Any:
    """A request for a kernel of `shape` in which these of its modes keep their full rank.

    Raises `ValueError` or `TypeError` for what are no modes of it.
    """
    names = (OUT, IN, *spatial_modes(len(shape) - 2))
    return with_fixed(plugin, shape, rank, checked_fixed(fixed, len(shape)), names)


def with_fixed(
    plugin: Factorization,
    shape: tuple[int, ...],
    rank: Any,
    fixed: tuple[int, ...],
    names: Modes,
) -> Any:
    """A request with the bond of each fixed axis at the size of that axis.

    An axis has such a bond where a factor holds nothing but both, as Tucker's do; formats without
    one truncate no axis by itself.
    """
    network = plugin.network(shape, 1)
    if isinstance(network, KernelSum):
        return rank
    sizes = network.opens
    held = [mode for modes in network.factors for mode in modes]
    whole = {
        bond: sizes[mode]
        for modes in network.factors
        for mode in {names[axis] for axis in fixed}.intersection(modes)
        for bond in modes
        if len(modes) == 2 and bond != mode and held.count(bond) == 2
    }
    if not whole:
        return rank
    if not is_budget(rank) and not isinstance(rank, Sequence | Integral):
        raise ValueError(
            f"rank={rank!r} with fixed_rank_modes={fixed}: give a fraction, 'same', an int or a "
            "tuple"
        )
    bonds = network.bonds
    if isinstance(rank, Sequence) and not isinstance(rank, str) and len(rank) == len(bonds):
        rank = tuple(one for bond, one in zip(bonds, rank, strict=True) if bond not in whole)
    free = tuple(bond for bond in bonds if bond not in whole)
    found = spend(network.factors, free, {**sizes, **whole}, rank, None, network.constants)
    left = iter(found)
    return tuple(whole[bond] if bond in whole else next(left) for bond in bonds)
