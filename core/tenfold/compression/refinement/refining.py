"""Refine a network of some choices, block by block of what the original gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...layer import FactorizedConv
from ..correction import Made
from ..measurement import Evaluate, Judge
from ..reporting import RefinedBlock, Refinement
from ..request import CompressionConfig
from ..running import Batch, Progress
from ..survey import Subject, pieces
from .ends import Block, blocks, given, squares
from .training import Towards, train, trainable

EPOCHS = 8
STEPS = 24  # an epoch, where batches let themselves be parted
RATE = 0.03  # the first step, of each factor's own size
SHARES = (1.0, 0.5, 0.25)  # of the way, that are tried


@dataclass(frozen=True)
class Refined:
    """A network, and what came of refining it; None where it was not asked for."""

    made: Made
    gained: Refinement | None = None


def refined(
    made: Made,
    subject: Subject,
    judge: Judge,
    config: CompressionConfig,
    progress: Progress,
    evaluate: Evaluate | None,
) -> Refined:
    """Train the layers of `made` towards what the original gives where blocks of them end."""
    if config.refine is None:
        return Refined(made)
    model = made.model
    changed = [
        layer.name
        for layer in subject.layers
        if isinstance(model.get_submodule(layer.name), FactorizedConv)
    ]
    if not changed:
        return Refined(made)
    found = blocks(subject.every, changed)
    parameters = trained(model, subject, found)
    items = -(-subject.items // STEPS)
    batches = pieces(subject.fitted, items, subject.model)
    before = gaps(subject.model, model, found, subject.held)
    wanted = [given(subject.model, found, batch) for batch in batches]
    towards = Towards(found, batches, wanted)
    start = [one.detach().clone() for one in parameters]
    with trainable(model, parameters):
        for _ in progress.over(
            train(model, parameters, towards, EPOCHS, RATE, config.seed), "refinement", EPOCHS
        ):
            pass
    share, error = best(model, parameters, start, judge, made.error)
    after = gaps(subject.model, model, found, subject.held)
    rows = tuple(
        RefinedBlock(layers=b.layers, before=x, after=y) for b, x, y in zip(found, before, after)
    )
    return Refined(replace(made, error=error), Refinement(blocks=rows, share=share))


def trained(model: nn.Module, subject: Subject, found: Sequence[Block]) -> list[nn.Parameter]:
    names = {name for block in found for name in block.layers}
    layers = [layer for layer in subject.layers if layer.name in names]
    places = [name for one in layers for name in (one.name, one.follower) if name is not None]
    every = (p for name in places for p in model.get_submodule(name).parameters())
    return list(dict.fromkeys(every))


@torch.no_grad()
def best(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    start: Sequence[Tensor],
    judge: Judge,
    error: float,
) -> tuple[float, float]:
    """Go as much of the way as is best on held-out inputs."""
    end = [one.detach().clone() for one in parameters]
    kept = 0.0

    def place(share: float) -> None:
        for one, first, last in zip(parameters, start, end, strict=True):
            one.copy_(torch.lerp(first, last, share))

    for share in SHARES:
        place(share)
        there = judge.change(model)
        if there < error:
            kept, error = share, there
    place(kept)
    return kept, error


def gaps(
    original: nn.Module, model: nn.Module, found: Sequence[Block], batches: Sequence[Batch]
) -> list[float]:
    sums = [[0.0, 0.0] for _ in found]
    for batch in batches:
        wanted, got = (given(one, found, batch) for one in (original, model))
        for block, pair in zip(found, sums):
            for at in wanted.of(block):
                if at in got.ends:
                    gap, norm = squares(wanted.ends[at], got.ends[at])
                    pair[0] += float(gap)
                    pair[1] += norm
    return [(a / b) ** 0.5 if b else 0.0 for a, b in sums]
