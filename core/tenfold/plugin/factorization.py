"""The abstract format of a factorized kernel."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from ..algebra import alternating_least_squares, tails
from ..network import GROUP, IN, OUT, KernelNetwork, Modes, is_budget, spatial_modes, spend
from .blame import blamed


@dataclass(frozen=True, kw_only=True)
class Factorization(ABC):
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

    def constant(self, modes: Modes, sizes: Mapping[str, int]) -> Tensor | None:
        """The values of a factor that the format fixes; None for one that is learned, as here all.

        `modes` are the factor's and `sizes` those of every mode; the values, one group's, have an
        axis for each of `modes`: a dictionary of filters, a copy tensor, a mask. They are a buffer
        of the layer: they move and are saved with it, but are not counted, drawn or fitted.

        Law: the same arguments give the same values. Raises nothing.

        >>> class Cosines(Factorization):
        ...     def factors(self, order, rank):
        ...         return [("out", "in", "f"), ("f", "k0")]
        ...
        ...     def constant(self, modes, sizes):
        ...         if "k0" not in modes:
        ...             return None
        ...         n, m = (torch.arange(sizes[mode]) for mode in modes)
        ...         return torch.cos(torch.pi * n[:, None] * (m + 0.5) / len(m))
        >>> kernel = FactorizedKernel.new((8, 4, 5), rank=2, factorization=Cosines)
        >>> kernel.numel(), [name for name, _ in kernel.named_buffers()]
        (64, ['factors.1'])
        """
        return None

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
        looks = kernel is not None and is_budget(rank) and len(bonds) > 1
        lost = tails(kernel, factors) if looks and kernel is not None else None
        ones = dict.fromkeys((*bonds, OUT, IN, *spatial_modes(len(shape) - 2)), 1)
        return spend(factors, bonds, shape, rank, lost, constants=self._fixed(factors, ones))

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
            constants=self.constants(network, kernel),
            sweeps=self.sweeps,
            tolerance=self.tolerance,
        )

    def constants(self, network: KernelNetwork, like: Tensor) -> dict[int, Tensor]:
        """The constant factors of a network of this format, as `like`; not to be overridden.

        Raises `ValueError` for values of another shape.

        >>> factorizations["cp"]().constants(KernelNetwork((("out", "in"),), {"out": 2, "in": 2}),
        ...                                  torch.zeros(()))
        {}
        """
        found = {}
        for index in network.constants:
            modes = tuple(mode for mode in network.factors[index] if mode != GROUP)
            values = self.constant(modes, network.sizes)
            wanted = tuple(network.sizes[mode] for mode in modes)
            if not isinstance(values, Tensor) or tuple(values.shape) != wanted:
                raise ValueError(
                    f"{type(self).__name__}.constant({modes}) must give values of shape {wanted}, "
                    f"not {tuple(getattr(values, 'shape', ())) or values!r}"
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
        with blamed(self):
            factors = self._named(order, rank)
            bonds = _bonds(factors, order)
            sizes = dict(zip((OUT, IN, *spatial_modes(order)), inner, strict=True))
            sizes |= zip(bonds, self._sized(bonds, self.ranks(inner, rank, kernel)), strict=True)
            constants = self._fixed(factors, sizes)
        if groups > 1:
            sizes[GROUP] = groups
            factors = tuple((GROUP, *factor) for factor in factors)
        return KernelNetwork(factors, sizes, constants)

    def _fixed(self, factors: Sequence[Modes], sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Which factors are constants."""
        if type(self).constant is Factorization.constant:
            return ()
        values = [self.constant(factor, sizes) for factor in factors]
        return tuple(index for index, one in enumerate(values) if one is not None)

    def _named(self, order: int, rank: Any) -> tuple[Modes, ...]:
        named = self.factors(order, rank)
        if not _is_tuple(named) or not all(
            _is_tuple(factor) and all(isinstance(mode, str) for mode in factor) for factor in named
        ):
            raise TypeError(f"{type(self).__name__}.factors() gave {named!r}, not tuples of names")
        for bond in _bonds(named, order):
            if bond == GROUP or re.fullmatch(r"k\d+", bond):
                raise ValueError(
                    f"{type(self).__name__}.factors() names a bond {bond!r} at order {order}: "
                    "'group' and 'k' with a number are core's, call it something else"
                )
        return tuple(tuple(factor) for factor in named)

    def _sized(self, bonds: Modes, ranks: Any) -> tuple[int, ...]:
        good = _is_tuple(ranks) and all(_is_size(one) for one in ranks)
        if not good or len(ranks) != len(bonds):
            raise ValueError(
                f"{type(self).__name__}.ranks() gave {ranks!r}: it must be a tuple with an int of "
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
