"""The abstract format of a factorized kernel."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from ..algebra import alternating_least_squares, by_group, tails
from ..network import GROUP, IN, OUT, KernelNetwork, Modes, is_budget, spatial_modes, spend
from .blame import ask, blamed, label
from .options import Options


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Factorization(Options, ABC):
    """A format: a plugin of the group `tenfold.factorizations`.

    The names of its factors' modes are enough. Ranks, initialisation, groups, transposed
    convolutions, every implementation and a decomposition follow from them.

    The fields are the options of the decomposition, which a user sets by `decomposition_kwargs` or
    by giving an instance: here `sweeps`, the most that are made, and `tolerance`, the fraction of
    the error by which one must lower it to go on.

    >>> class TensorRing(Factorization):
    ...     def factors(self, order, rank):
    ...         middle = [(f"b{axis}", f"k{axis}", f"b{axis + 1}") for axis in range(order)]
    ...         return [("z", "in", "b0"), *middle, (f"b{order}", "out", "z")]
    >>> ring = TensorRing(sweeps=20)
    >>> ring.ranks((8, 4, 3), 2), ring.network((8, 4, 3), 2).bonds
    ((2, 2, 2), ('z', 'b0', 'b1'))
    >>> layer = FactorizedConv(4, 8, (3,), rank=2, factorization=ring)
    """

    sweeps: int = 100
    tolerance: float = 1e-4

    @abstractmethod
    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        """Name the modes of each factor of a kernel with `order` spatial modes.

        The open modes are `"out"`, `"in"`, `"k0"` to `f"k{order - 1}"`; every other name is a bond
        that at least two factors share; `"group"` and further `k`s are core's own. `rank` is what
        the user asked for, should the factors depend on it.

        Law: bonds at their exact sizes hold every kernel; more bond size is never worse.

        Raises `ValueError` for an order or a request that the format has not.
        """

    def ranks(
        self,
        shape: Sequence[int],
        rank: Any,
        kernel: Tensor | None = None,  # (groups, out, in, *k)
    ) -> tuple[int, ...]:
        """Choose the size of each bond, in the order of their first appearance.

        `shape` is one group's kernel, `(out, in, *k)`. A budget is spent by what each bond keeps of
        `kernel`, where there is one. Overridden where a format takes requests of its own, or has
        better means. Law: the answer, asked for again, is answered with itself.

        Raises `ValueError` or `TypeError` for a request that is not understood.
        """
        factors = self._named(len(shape) - 2, rank)
        bonds = _bonds(factors, len(shape) - 2)
        lost = None if kernel is None or not is_budget(rank) else tails(kernel, factors, bonds)
        return spend(factors, bonds, shape, rank, lost)

    def decompose(
        self,
        kernel: Tensor,  # (groups, out, in, *k)
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        """Find factors, each with a leading axis of groups, whose network is near `kernel`.

        Here by alternating least squares, which holds for any network; overridden where a format
        has something better. The kernel, `(groups, out, in, *k)`, comes detached, with norm 1 for
        each group, in float64 where the device has it; `network` has the mode `group`. Raises
        nothing: whatever is refused was refused before.

        >>> network = KernelNetwork(
        ...     (("group", "in", "k0", "r"), ("group", "r", "out")),
        ...     {"group": 1, "out": 8, "in": 2, "k0": 3, "r": 6},
        ... )
        >>> kernel = torch.randn(1, 8, 2, 3, dtype=torch.float64)
        >>> [tuple(factor.shape) for factor in factorizations["tt"]().decompose(kernel, network)]
        [(1, 2, 3, 6), (1, 6, 8)]

        Law: the same kernel and random state give the same factors; at exact ranks the kernel
        comes back.
        """
        return alternating_least_squares(
            kernel,
            network,
            generator=generator,
            sweeps=self.sweeps,
            tolerance=self.tolerance,
        )

    def network(
        self,
        shape: Sequence[int],
        rank: Any,
        groups: int = 1,
        kernel: Tensor | None = None,  # of that shape
    ) -> KernelNetwork:
        """The network for a kernel of shape `(out, in/groups, *k)`; not to be overridden.

        With groups, every factor gets the mode `group`: one network of this format for each.
        Raises `ValueError` or `TypeError` for a request that is not understood.
        """
        order = len(shape) - 2
        inner = (shape[0] // groups, *shape[1:])
        factors = self._named(order, rank)
        bonds = _bonds(factors, order)
        sizes = dict(zip((OUT, IN, *spatial_modes(order)), inner, strict=True))
        copied = None if kernel is None else by_group(kernel, groups).clone()  # it may be a view
        ranks = ask(self.ranks, inner, rank, copied)
        sizes |= zip(bonds, self._sized(bonds, ranks), strict=True)
        if groups > 1:
            sizes[GROUP] = groups
            factors = tuple((GROUP, *factor) for factor in factors)
        with blamed(self, "factors"):
            try:
                return KernelNetwork(factors, sizes)
            except ValueError as fault:
                raise ValueError(f"{label(self, 'factors')} gave {factors}: {fault}") from None

    def _named(self, order: int, rank: Any) -> tuple[Modes, ...]:
        named = ask(self.factors, order, rank)
        if not _is_tuple(named) or not all(
            _is_tuple(factor) and all(isinstance(mode, str) for mode in factor) for factor in named
        ):
            raise TypeError(f"{label(self, 'factors')} gave {named!r}, not tuples of names")
        for bond in _bonds(named, order):
            if bond == GROUP or re.fullmatch(r"k\d+", bond):
                raise ValueError(
                    f"{label(self, 'factors')} names a bond {bond!r} at order {order}: "
                    "'group' and 'k' with a number are core's, call it something else"
                )
        return tuple(tuple(factor) for factor in named)

    def _sized(self, bonds: Modes, ranks: Any) -> tuple[int, ...]:
        good = _is_tuple(ranks) and all(_is_size(one) for one in ranks)
        if not good or len(ranks) != len(bonds):
            raise ValueError(
                f"{label(self, 'ranks')} gave {ranks!r}: it must be a tuple with an int of "
                f"at least 1 for each bond of {bonds}"
            )
        return tuple(ranks)


def _is_tuple(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_size(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _bonds(factors: Sequence[Sequence[str]], order: int) -> Modes:
    open_modes = (OUT, IN, *spatial_modes(order))
    names = dict.fromkeys(mode for factor in factors for mode in factor)
    return tuple(name for name in names if name not in open_modes)
