"""Random factors scaled to a kernel of a given size, which is never made."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..network import KernelNetwork, inner_product, parts_of, terms_of


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
        norm = float(inner_product(term, part, term, part))
        mine = scaled(term, part, energy / len(terms) / norm)
        before = zip(terms[:place], shares, strict=True)
        along = sum(float(inner_product(term, mine, other, one)) for other, one in before)
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
