"""The abstract format of a factorized kernel: what follows from the modes of its factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..algebra import alternating_least_squares, in_real, tails
from ..network import GROUP, KernelNetwork, Modes, is_budget, spend
from .answers import (
    bonds_of,
    check_opens,
    checked_constant,
    checked_factors,
    checked_ranks,
    checked_sizes,
    checked_widths,
)
from .blame import ask, blamed, label
from .format import Format
from .options import Options


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Factorization(Options, Format):
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

    def for_tensors(self) -> Factorization:
        """This format for tensors whose modes are all alike, as `FactorizedTensor` has them.

        By default itself; another where the modes of channels are dealt with unlike those of space.
        Law: the same options, apart from that. Raises nothing.

        >>> factorizations["cp"]().for_tensors().factors(1, 2)
        [('out', 'r'), ('in', 'r'), ('k0', 'r')]
        >>> factorizations["tucker"]().for_tensors().network((8, 4, 3), 2).shapes
        ((8, 2), (4, 2), (3, 2), (2, 2, 2))
        """
        return self

    def ranks(
        self,
        shape: Sequence[int],
        rank: Any,
        kernel: Tensor | None = None,  # (groups, out, in, *k), the modes that are split apart
    ) -> tuple[int, ...]:
        """Choose the size of each bond, in the order of their first appearance.

        `shape` is one group's kernel, `(out, in, *k)`; `kernel` has an axis of groups, and one for
        each open mode; a complex one comes as its real and imaginary parts, twice the groups. A
        budget is spent by what each bond keeps of it, where there is one. Overridden where a format
        takes requests of its own, or has better means. Law: the answer, asked for again, is
        answered with itself.

        Raises `ValueError` or `TypeError` for a request that is not understood.
        """
        order, factors = len(shape) - 2, self._named(shape, rank)
        bonds, sizes = bonds_of(factors, order), self._opens(shape)
        given = checked_widths(self, bonds, self.widths(sizes))
        free = tuple(bond for bond in bonds if bond not in given)
        if given and isinstance(rank, Sequence) and len(rank) == len(bonds):
            rank = tuple(one for bond, one in zip(bonds, rank, strict=True) if bond in free)
        looks = kernel is not None and is_budget(rank) and len(free) > 1
        lost = tails(kernel, factors) if looks and kernel is not None else None
        constants = self._fixed(factors, {**dict.fromkeys(bonds, 1), **sizes, **given})
        chosen = iter(spend(factors, free, {**sizes, **given}, rank, lost, constants))
        return tuple(given[bond] if bond in given else next(chosen) for bond in bonds)

    def decompose(
        self,
        kernel: Tensor,  # (groups, out, in, *k)
        network: KernelNetwork,
        generator: torch.Generator | None = None,
    ) -> Sequence[Tensor]:
        """Find factors, each with a leading axis of groups, whose network is near `kernel`.

        Here by alternating least squares, which holds for any network; overridden where a format
        has something better. The kernel, `(groups, out, in, *k)`, comes detached, with norm 1 for
        each group, in float64 where the device has it; modes that are split have an axis each.
        `network` has the mode `group`. Raises nothing: whatever is refused was refused before.

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
            constants=self.constants(network, kernel),
            sweeps=self.sweeps,
            tolerance=self.tolerance,
        )

    def constants(self, network: KernelNetwork, like: Tensor) -> dict[int, Tensor]:
        """The constant factors of a network of this format; not to be overridden.

        By their indices, each of the network's shape `(sizes[mode], …)`, of the dtype and on the
        device of `like`. Raises `ValueError` for values of another shape.

        >>> factorizations["cp"]().constants(KernelNetwork((("out", "in"),), {"out": 2, "in": 2}),
        ...                                  torch.zeros(()))
        {}
        """
        found = {}
        for index in network.constants:
            modes = tuple(mode for mode in network.factors[index] if mode != GROUP)
            values = checked_constant(
                self, modes, network.sizes, self.constant(modes, network.sizes)
            )
            found[index] = values.to(like).expand(network.shapes[index]).contiguous()
        return found

    def network(
        self,
        shape: Sequence[int],
        rank: Any,
        groups: int = 1,
        kernel: Tensor | None = None,  # (groups, out, in, *k)
    ) -> KernelNetwork:
        """The network for a kernel of shape `(out, in/groups, *k)`; not to be overridden.

        With groups, every factor gets the mode `group`: one network of this format for each. By
        `kernel`, where there is one, a budget is spent; it comes as in `ranks`.
        Raises `ValueError` or `TypeError` for a request that is not understood.
        """
        order = len(shape) - 2
        inner = (shape[0] // groups, *shape[1:])
        factors = self._named(inner, rank)
        bonds = bonds_of(factors, order)
        sizes = self._opens(inner)
        check_opens(self, factors, sizes)
        if kernel is not None:
            kernel = kernel.reshape(len(kernel), *sizes.values())
            if type(self).ranks is not Factorization.ranks:
                kernel = in_real(kernel.clone())  # a view of what others need
        ranks = checked_ranks(self, bonds, ask(self.ranks, inner, rank, kernel))
        sizes |= zip(bonds, ranks, strict=True)
        constants = self._fixed(factors, sizes)
        if groups > 1:
            sizes[GROUP] = groups
            factors = tuple((GROUP, *factor) for factor in factors)
        with blamed(self, "factors"):
            try:
                return KernelNetwork(factors, sizes, constants)
            except ValueError as fault:
                raise ValueError(f"{label(self, 'factors')} gave {factors}: {fault}") from None

    def _named(self, shape: Sequence[int], rank: Any) -> tuple[Modes, ...]:
        """The modes of each factor."""
        order = len(shape) - 2
        if type(self).factors_for is Factorization.factors_for:
            return checked_factors(self, order, ask(self.factors, order, rank))
        return checked_factors(self, order, ask(self.factors_for, shape, rank))

    def _opens(self, shape: Sequence[int]) -> dict[str, int]:
        """The sizes of the open modes, in their order."""
        return checked_sizes(self, shape, ask(self.splits, shape))

    def _fixed(self, factors: Sequence[Modes], sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Which factors are constants."""
        if type(self).constant is Factorization.constant:
            return ()
        values = [ask(self.constant, factor, sizes) for factor in factors]
        return tuple(index for index, one in enumerate(values) if one is not None)
