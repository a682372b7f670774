"""A kernel that is a sum of networks: their factors one after another, their bonds renamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from .contraction import Contraction, Modes
from .network import GROUP, IN, OUT, KernelNetwork, spatial_modes


@dataclass(frozen=True)
class KernelSum(KernelNetwork):
    """The structure of `K = K₁ + K₂ + …`, each of `terms` a network of its own.

    Its factors are those of the terms in order, and a bond `r` of the first is `0.r`; so is a part
    of a mode, `0.out.1`, where not all terms split it alike, and the sum has it whole. Counting is
    that of any network; whatever contracts its factors asks the terms. Made by `KernelSum.of`.
    """

    terms: tuple[KernelNetwork, ...] = field(default=())

    def __post_init__(self) -> None:
        """Nothing to check: each term is a network, and `of` made this of them."""

    @classmethod
    def of(cls, terms: Sequence[KernelNetwork]) -> KernelSum:
        """Add networks; raises `ValueError` where they are not for kernels of one shape."""
        shapes = [(term.shape, term.groups) for term in terms]
        if any(one != shapes[0] for one in shapes):
            raise ValueError(f"the terms of a sum are of kernels {shapes}: they must be of one")
        opens = [term.opens for term in terms]
        if any(one != opens[0] for one in opens):
            opens[0] = _whole(terms[0])
        factors: list[Modes] = []
        constants: list[int] = []
        sizes = dict(opens[0])
        for place, term in enumerate(terms):
            constants += [len(factors) + index for index in term.constants]
            names = {mode: f"{place}.{mode}" for mode in term.sizes if mode not in opens[0]}
            factors += [tuple(names.get(mode, mode) for mode in modes) for modes in term.factors]
            sizes |= {name: term.sizes[mode] for mode, name in names.items()}
        return cls(tuple(factors), sizes, tuple(constants), tuple(terms))

    @cached_property
    def bonds(self) -> Modes:
        """The bonds of all terms, each with the place of its term before it."""
        return tuple(f"{i}.{bond}" for i, term in enumerate(self.terms) for bond in term.bonds)

    @cached_property
    def dense(self) -> KernelNetwork:
        """The same kernel as one factor, with no mode split."""
        sizes = _whole(self)
        return KernelNetwork((tuple(sizes),), sizes)

    def parts(self, factors: Sequence[Tensor]) -> list[list[Tensor]]:
        """The factors of each term."""
        given = iter(factors)
        return [[next(given) for _ in term.factors] for term in self.terms]

    def contraction(self, indices: Sequence[int], output: tuple[str, ...]) -> Contraction:
        """Refused, with a `ValueError`: factors of different terms are added, not multiplied."""
        raise ValueError("a sum of networks is no one contraction: ask each of its terms")

    def to_tensor(self, factors: Sequence[Tensor]) -> Tensor:
        """The sum of what the terms' factors contract to, `(out, in/groups, *k)`."""
        parts = self.parts(factors)
        first, *rest = (term.to_tensor(one) for term, one in zip(self.terms, parts, strict=True))
        for one in rest:
            first = first + one
        return first


def _whole(network: KernelNetwork) -> dict[str, int]:
    """The sizes of the open modes, none of them split."""
    out, *rest = network.shape
    names = (OUT, IN, *spatial_modes(network.order))
    sizes = dict(zip(names, (out // network.groups, *rest), strict=True))
    return {GROUP: network.groups, **sizes} if GROUP in network.sizes else sizes


def terms_of(network: KernelNetwork) -> tuple[KernelNetwork, ...]:
    """The networks whose kernels are added: itself where it is no sum."""
    return network.terms if isinstance(network, KernelSum) else (network,)


def parts_of(network: KernelNetwork, factors: Sequence[Tensor]) -> list[list[Tensor]]:
    """The factors of each of these."""
    return network.parts(factors) if isinstance(network, KernelSum) else [list(factors)]
