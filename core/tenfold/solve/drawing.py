"""Random factors scaled to a kernel of a given size, which is never made."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..network import KernelNetwork, parts_of, plan_contraction, terms_of


def drawn(
    network: KernelNetwork,
    factors: Sequence[Tensor],
    energy: float,
    generator: torch.Generator | None,
) -> list[Tensor]:
    """Normal factors of equal norms, beside the constants among `factors`, with `‖K‖²` `energy`."""
    dtype = torch.get_default_dtype()
    if factors[0].is_complex():
        dtype = dtype.to_complex()
    values = [factor.to(dtype) for factor in factors]
    for index in network.free:
        factor = factors[index]
        device = factor.device if generator is None else generator.device
        numbers = torch.randn(factor.shape, generator=generator, device=device, dtype=dtype)
        numbers = numbers.to(factor.device)
        values[index] = numbers / numbers.norm()
    shares = scaled_terms(terms_of(network), parts_of(network, values), energy)
    return [one for share in shares for one in share]


def scaled_terms(
    terms: Sequence[KernelNetwork], parts: Sequence[Sequence[Tensor]], energy: float
) -> list[list[Tensor]]:
    """The factors of each term of a sum, of equal shares, with `‖K‖²` the `energy`.

    A term turns round where it would take from the others.
    """
    shares: list[list[Tensor]] = []
    total = 0.0
    for place, (term, part) in enumerate(zip(terms, parts, strict=True)):
        mine = scaled(term, part, energy / len(terms) / inner(term, part, term, part))
        before = zip(terms[:place], shares, strict=True)
        along = sum(inner(term, mine, other, one) for other, one in before)
        if along < 0:
            mine[term.free[0]] = -mine[term.free[0]]
        total += energy / len(terms) + 2 * abs(along)
        shares.append(mine)
    if len(terms) == 1:
        return shares
    return [scaled(term, one, energy / total) for term, one in zip(terms, shares, strict=True)]


def scaled(network: KernelNetwork, factors: Sequence[Tensor], gain: float) -> list[Tensor]:
    """The factors with `‖K‖²` so many times as large, each but constants by as much."""
    each = gain ** (0.5 / len(network.free))
    return [one * each if index in network.free else one for index, one in enumerate(factors)]


def inner(
    network: KernelNetwork,
    factors: Sequence[Tensor],
    other: KernelNetwork,
    others: Sequence[Tensor],
) -> float:
    """The real part of the inner product of two kernels, contracted without making them.

    They are made where their modes are not split alike.
    """
    opens = [{mode: one.sizes[mode] for mode in one.open_modes} for one in (network, other)]
    if opens[0] != opens[1]:
        return float((network.to_tensor(factors) * other.to_tensor(others).conj()).sum().real)
    bonds = {bond: f"{bond}'" for bond in other.bonds}
    copies = [tuple(bonds.get(mode, mode) for mode in factor) for factor in other.factors]
    sizes = {**network.sizes, **{bonds[bond]: other.sizes[bond] for bond in bonds}}
    product = plan_contraction([*network.factors, *copies], (), sizes)
    return float(product([*factors, *(one.conj() for one in others)]).real)
