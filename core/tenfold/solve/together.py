"""The terms of a sum fitted together: each to what the others leave of the whole."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..algebra import Part, energy, fit_to_sum, work_dtype
from ..network import KernelNetwork, with_group
from ..plugin import Factorization

ROUNDS = 4  # over the terms


def together(
    formats: Sequence[Factorization],
    olds: Sequence[tuple[KernelNetwork, Sequence[Tensor]]],
    news: Sequence[tuple[KernelNetwork, Sequence[Tensor]]],
) -> list[list[Tensor]]:
    """The factors of the new terms, whose sum comes nearer to that of the old, where it can."""
    before = [_ready(network, factors) for network, factors in olds]
    now = [_ready(network, factors) for network, factors in news]
    first = list(now)
    for _ in range(ROUNDS):
        for place, (format_, term) in enumerate(zip(formats, now, strict=True)):
            left = [_less(one) for at, one in enumerate(now) if at != place]
            constants = format_.constants(news[place][0], term.factors[0])
            fitted = fit_to_sum(
                [*before, *left],
                term.network,
                term.factors,
                constants,
                format_.sweeps,
                format_.tolerance,
            )
            now[place] = term._replace(factors=fitted)
    if energy([*before, *map(_less, now)]) > energy([*before, *map(_less, first)]):
        now = first
    return [
        [one.reshape(shape) for one, shape in zip(term.factors, network.shapes, strict=True)]
        for term, (network, _) in zip(now, news, strict=True)
    ]


def _ready(network: KernelNetwork, factors: Sequence[Tensor]) -> Part:
    grouped = with_group(network)
    pairs = zip(factors, grouped.shapes, strict=True)
    wide = [one.detach().to(work_dtype(one)).reshape(shape) for one, shape in pairs]
    return Part(1.0, grouped, wide)


def _less(part: Part) -> Part:
    return part._replace(times=-part.times)
