"""A kernel that is a sum of networks: their factors one after another, their bonds renamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .contraction import Contraction, Modes
from .network import KernelNetwork


@dataclass(frozen=True)
class KernelSum(KernelNetwork):
    """The structure of `K = K₁ + K₂ + …`, each of `terms` a network of its own.

    Its factors are those of the terms in order, and a bond `r` of the first is `0.r`. Counting is
    that of any network; whatever contracts its factors asks the terms. Made by `KernelSum.of`.
    """

    terms: tuple[KernelNetwork, ...] = field(default=())

    @classmethod
    def of(cls, terms: Sequence[KernelNetwork]) -> KernelSum:
        """Add networks; raises `ValueError` where they are not for kernels of the same modes."""
        opens = [{mode: term.sizes[mode] for mode in term.open_modes} for term in terms]
        if any(one != opens[0] for one in opens):
            raise ValueError(
                f"the terms of a sum have open modes of their own, {opens}: they must be the same, "
                "split or not"
            )
        factors: list[Modes] = []
        constants: list[int] = []
        sizes = dict(opens[0])
        for place, term in enumerate(terms):
            constants += [len(factors) + index for index in term.constants]
            names = {bond: f"{place}.{bond}" for bond in term.bonds}
            factors += [tuple(names.get(mode, mode) for mode in modes) for modes in term.factors]
            sizes |= {names[bond]: term.sizes[bond] for bond in term.bonds}
        return cls(tuple(factors), sizes, tuple(constants), tuple(terms))

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


def terms_of(network: KernelNetwork) -> tuple[KernelNetwork, ...]:
    """The networks whose kernels are added: itself where it is no sum."""
    return network.terms if isinstance(network, KernelSum) else (network,)


def parts_of(network: KernelNetwork, factors: Sequence[Tensor]) -> list[list[Tensor]]:
    """The factors of each of these."""
    return network.parts(factors) if isinstance(network, KernelSum) else [list(factors)]
