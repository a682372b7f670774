"""Decompositions of a layer: formats × ranks, each in the layer's norm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...network import KernelNetwork, Modes, Multiple, clip, terms_of
from ...plugin import Choice, Factorization, factorizations
from ...solve import check_finite
from ..moments import Norm
from ..survey import Layer
from .truncation import centre, kept, leading, ordered
from .turned import Turned
from .turned_sum import TurnedSum, turned_for

Rank = int | tuple[int, ...]
FRACTIONS = tuple(0.9 * 0.84**step for step in range(22))  # of the dense parameters
COARSE = 3e-3  # the tolerance of a decomposition that is truncated afterwards
FEW_FRACTIONS = tuple(0.45 * 0.62**step for step in range(6))  # where each is a decomposition


class Source(NamedTuple):
    """A network of the largest ranks, and its factors, whose leading parts are truncations."""

    network: KernelNetwork
    factors: list[Tensor]


@dataclass(frozen=True)
class Fitted:
    """A network and its factors for a layer's kernel: those `truncated`, if they are part of such.

    `turned` is what was decomposed.
    """

    choice: Choice[Factorization]
    turned: Turned | TurnedSum
    network: KernelNetwork
    factors: list[Tensor]
    truncated: Source | None = None

    @property
    def part_of(self) -> Rank | None:
        """The ranks of what was truncated."""
        return None if self.truncated is None else rank_of(self.truncated.network)

    @property
    def rank(self) -> Rank:
        return rank_of(self.network)


def rank_of(network: KernelNetwork) -> Rank:
    """The sizes of the bonds, as a request asks for them."""
    sizes = tuple(network.sizes[bond] for bond in network.bonds)
    return sizes[0] if len(sizes) == 1 else sizes


def alignment(layer: Layer, asked: int | None) -> int:
    """What ranks are multiples of: the widest that leaves a narrow layer a choice."""
    if asked is not None:
        return asked
    narrow = min(layer.config.out_channels, layer.config.shape[1])
    return next((base for base in (16, 8, 4, 2) if narrow >= 4 * base), 1)


def fits(
    layer: Layer,
    kernel: Tensor,  # (out, in/groups, *k)
    norm: Norm,
    formats: Sequence[str],
    base: int,
    seed: int,
) -> Iterator[Fitted]:
    """Decompose a layer's kernel in each format at each rank that is smaller than dense.

    Raises `ValueError` for a kernel that is not finite.
    """
    check_finite(kernel)
    rank = layer.request.get("rank")
    asked = layer.request.get("factorization")
    choices = [factorizations.choose(asked)] if asked else distinct(layer, formats)
    for choice in choices:
        generator = torch.Generator().manual_seed(seed)
        turned = turned_for(choice.plugin, kernel, norm, layer.config.groups)
        if rank is not None:
            networks = [turned.asked(rank, generator)]
        elif isinstance(turned, Turned) and is_nested(turned.network(1)):
            yield from _nested(choice, turned, base, generator)
            continue
        else:
            networks = [turned.network(Multiple(base, of=of)) for of in FEW_FRACTIONS]
        seen = set()
        for network in networks:
            if network.shapes not in seen and (rank or network.numel < kernel.numel()):
                seen.add(network.shapes)
                yield Fitted(choice, turned, network, turned.factors(network, generator))


def is_nested(network: KernelNetwork) -> bool:
    """Whether its truncations are those of one decomposition."""
    return len(network.bonds) <= 2 and centre(network) is not None and not network.constants


def _nested(
    choice: Choice[Factorization], turned: Turned, base: int, generator: torch.Generator
) -> Iterator[Fitted]:
    """One decomposition at the largest ranks, truncated to those that keep most for their cost.

    Of two bonds at whole ranks: that is exact, and takes no iteration.
    """
    whole, dense_size = turned.network(10**9), turned.kernel.numel()
    opens = whole.opens
    numels = {}
    for ranks in product(*(_aligned(whole.sizes[bond], base) for bond in whole.bonds)):
        sizes = dict(zip(whole.bonds, ranks, strict=True))
        network = KernelNetwork(whole.factors, {**whole.sizes, **sizes})
        numel = network.numel
        if numel < dense_size and clip(whole.factors, whole.bonds, opens, sizes) == sizes:
            numels[ranks] = numel
    if not numels:
        return
    most = tuple(map(max, zip(*numels, strict=True)))
    largest = whole if len(most) > 1 else turned.network(most, weighed=False)
    middle = centre(largest)
    assert middle is not None
    factors = ordered(largest, turned.solve(largest, generator, COARSE), middle)
    keeps = kept(largest, factors, middle).cpu().numpy()
    source = Source(largest, turned.restore(factors))
    chosen = set()
    for fraction in FRACTIONS:
        within = [ranks for ranks, numel in numels.items() if numel <= fraction * dense_size]
        if within:
            chosen.add(max(within, key=lambda r: float(keeps[tuple(one - 1 for one in r)])))
    for ranks in sorted(chosen):
        network = turned.network(ranks, weighed=False)
        yield Fitted(choice, turned, network, leading(network, source.factors), source)


def _aligned(most: int, base: int) -> list[int]:
    """The ranks up to `most` to choose from: multiples of `base`, and fractions of it below."""
    small = [base >> shift for shift in range(1, base.bit_length())]
    step = base * max(1, most // (base * 64))  # no more than 64
    return sorted({r for r in (*small, *range(base, most + 1, step), most) if r <= most})


def distinct(layer: Layer, formats: Sequence[str]) -> list[Choice[Factorization]]:
    """The formats that differ on this layer: of a 1×1 kernel, say, several are one matrix product.

    One with a factor that has no open mode is left out where others do without.
    """
    shape, groups = layer.config.shape, layer.config.groups
    found: dict[Any, Choice[Factorization]] = {}
    for name in formats:
        choice = factorizations.choose(name)
        terms = {graph_of(term) for term in terms_of(choice.plugin.network(shape, 2, groups))}
        found.setdefault(tuple(sorted(terms)), choice)
    whole = {terms: one for terms, one in found.items() if all(all(opens) for opens, _ in terms)}
    return list((whole or found).values())


def graph_of(network: KernelNetwork) -> tuple[tuple[Modes, ...], tuple[tuple[Modes, ...], ...]]:
    """The open modes of more than one element that each factor has, and what each bond joins."""
    large = [mode for mode in network.open_modes if network.sizes[mode] > 1]
    opens = [tuple(sorted(mode for mode in large if mode in one)) for one in network.factors]
    joined = [
        tuple(sorted(own for own, one in zip(opens, network.factors, strict=True) if bond in one))
        for bond in network.bonds
    ]
    return tuple(sorted(opens)), tuple(sorted(joined))
