"""Inner products of kernels, from their factors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .added import parts_of, terms_of
from .contraction import plan_contraction
from .network import KernelNetwork


def inner_product(
    network: KernelNetwork,
    factors: Sequence[Tensor],
    other: KernelNetwork,
    others: Sequence[Tensor],
) -> Tensor:
    """The real part of the inner product of two kernels, contracted without making them.

    They are made where their modes are not split alike.
    """
    if network.opens != other.opens:
        product = (network.to_tensor(factors) * other.to_tensor(others).conj()).sum()
        return product.real if product.is_complex() else product
    bonds = {bond: f"{bond}'" for bond in other.bonds}
    copies = [tuple(bonds.get(mode, mode) for mode in factor) for factor in other.factors]
    sizes = {**network.sizes, **{bonds[bond]: other.sizes[bond] for bond in bonds}}
    contract = plan_contraction([*network.factors, *copies], (), sizes)
    found: Tensor = contract([*factors, *(one.conj() for one in others)])
    return found.real if found.is_complex() else found


def squared_norm(network: KernelNetwork, factors: Sequence[Tensor]) -> Tensor:
    """`‖K‖²`, of a sum too: the norms of its terms and what they have in common."""
    terms = list(zip(terms_of(network), parts_of(network, factors), strict=True))
    first, *rest = (
        inner_product(term, part, other, one) * (1 if place == at else 2)
        for place, (term, part) in enumerate(terms)
        for at, (other, one) in enumerate(terms[: place + 1])
    )
    return sum(rest, first)
