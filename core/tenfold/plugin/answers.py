"""What a format's methods gave, checked: each refusal names the class and the method."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from numbers import Integral
from typing import Any

from torch import SymInt, Tensor

from ..network import GROUP, IN, OUT, Modes, is_open, spatial_modes
from .blame import label


def bonds_of(factors: Sequence[Sequence[str]], order: int) -> Modes:
    """The names that are no open modes of a kernel of that order, as they first appear."""
    opens = {OUT, IN, *spatial_modes(order)}
    names = dict.fromkeys(mode for factor in factors for mode in factor)
    return tuple(n for n in names if not is_open(n) or n.partition(".")[0] not in opens)


def checked_factors(plugin: object, order: int, named: Any) -> tuple[Modes, ...]:
    """The modes of each factor; raises `TypeError` or `ValueError`."""
    if not _is_tuple(named) or not all(
        _is_tuple(factor) and all(isinstance(mode, str) for mode in factor) for factor in named
    ):
        raise TypeError(f"{label(plugin, 'factors')} gave {named!r}, not tuples of names")
    for bond in bonds_of(named, order):
        if bond == GROUP or re.fullmatch(r"k\d+(\.\d+)?", bond):
            raise ValueError(
                f"{label(plugin, 'factors')} names a bond {bond!r} at order {order}: "
                "'group' and 'k' with a number are core's, call it something else"
            )
    return tuple(tuple(factor) for factor in named)


def checked_sizes(plugin: object, shape: Sequence[int], splits: Any) -> dict[str, int]:
    """The sizes of the open modes, in their order; raises `ValueError`."""
    whole = zip((OUT, IN, *spatial_modes(len(shape) - 2)), shape, strict=True)
    if not splits:
        return dict(whole)
    sizes: dict[str, int] = {}
    known = (OUT, IN, *spatial_modes(len(shape) - 2))
    if not isinstance(splits, Mapping) or not set(known).issuperset(splits):
        raise ValueError(
            f"{label(plugin, 'splits')} gave {splits!r}: it must map some of {known} to tuples of "
            "ints"
        )
    for name, size in whole:
        parts = splits.get(name, ())
        good = _is_tuple(parts) and all(map(_is_size, parts))
        if name in splits and not (good and parts and prod(parts) == size):
            raise ValueError(
                f"{label(plugin, 'splits')} gave {parts!r} for {name!r}: it must be a tuple of "
                f"ints whose product is {size}"
            )
        apart = {f"{name}.{place}": int(part) for place, part in enumerate(parts)}
        sizes |= apart or {name: size}
    return sizes


def check_opens(plugin: object, factors: Sequence[Modes], sizes: Mapping[str, int]) -> None:
    """Refuse an open mode that is split, and not named by its parts, with a `ValueError`."""
    for mode in (mode for factor in factors for mode in factor):
        parts = [part for part in sizes if part.startswith(f"{mode}.")]
        if parts and is_open(mode):
            raise ValueError(
                f"{label(plugin, 'factors')} names {mode!r}, which its splits() part: "
                f"the modes are {', '.join(parts)}"
            )


def checked_widths(plugin: object, bonds: Modes, widths: Any) -> dict[str, int]:
    """The bonds of a fixed size; raises `ValueError`."""
    good = isinstance(widths, Mapping) and set(bonds).issuperset(widths)
    if not good or not all(map(_is_size, widths.values())):
        raise ValueError(
            f"{label(plugin, 'widths')} gave {widths!r}: it must map some of its bonds {bonds} to "
            "ints of at least 1"
        )
    return dict(widths)


def checked_ranks(plugin: object, bonds: Modes, ranks: Any) -> tuple[int, ...]:
    """The size of each bond; raises `ValueError`."""
    good = _is_tuple(ranks) and all(_is_size(one) for one in ranks)
    if not good or len(ranks) != len(bonds):
        raise ValueError(
            f"{label(plugin, 'ranks')} gave {ranks!r}: it must be a tuple with an int of "
            f"at least 1 for each bond of {bonds}"
        )
    return tuple(ranks)


def checked_constant(plugin: object, modes: Modes, sizes: Mapping[str, int], values: Any) -> Tensor:
    """The values of a constant factor; raises `ValueError`."""
    wanted = tuple(sizes[mode] for mode in modes)
    if not isinstance(values, Tensor) or tuple(values.shape) != wanted:
        given = f"{tuple(values.shape)}" if isinstance(values, Tensor) else repr(values)
        raise ValueError(
            f"{label(plugin, 'constant')} for {modes} must give values of shape {wanted}, "
            f"not {given}"
        )
    return values


def _is_tuple(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_size(value: Any) -> bool:
    good = isinstance(value, Integral | SymInt) and not isinstance(value, bool)
    return good and bool(value >= 1)
