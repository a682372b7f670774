"""A network of some choices refined, and kept as far as that helps on held-out inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...layer import FactorizedConv, JointConv, Member
from ..correction import Made
from ..measurement import Judge, score
from ..reporting import RefinedBlock, Refinement
from ..request import CompressionConfig
from ..running import Progress
from ..survey import Subject
from .blocks import Block, blocks
from .ends import Kept, ends, gaps, stored
from .training import Towards, trainable, trained

EPOCHS = 6
PAYS = 0.015  # of its error a network has to be nearer by, at some share of the way, to go on
RATE = 0.02, 0.4  # of the highest step, of each parameter's size: at most, and of the error
SHARES = (1.0, 0.5, 0.25)  # of the way, that are tried
FAULTS = (RuntimeError, ValueError, TypeError, NotImplementedError, FloatingPointError)


def refine(
    made: Made,
    subject: Subject,
    judge: Judge,
    config: CompressionConfig,
    progress: Progress,
    kept: Kept,
) -> tuple[Made, Refinement | None]:
    """Train the layers of `made` towards what the original gives where blocks of them end.

    Each block is a few neighbouring layers. All of them learn together, so that each sees what
    those before it give and makes up for it: the compressed network's own inputs, the original's
    outputs (AA-SVD, arXiv 2604.02119). As much of the way is kept as is best on held-out inputs.
    Batch statistics, training flags and what asks for gradients stay. Without a second answer where
    nothing was to be refined.
    """
    found = blocks(subject.every, _changed(made.model, subject))
    parameters = trained(made.model, subject, found)
    if config.refine == "off" or not parameters:
        return made, None
    if any(one.dtype not in (torch.float32, torch.float64) for one in parameters):
        return made, _not_refined("its numbers are too narrow for small steps")
    start = [one.detach().clone() for one in parameters]
    found, batches, wanted = stored(subject, found, config.memory, kept)
    towards = Towards(found, batches, wanted)
    try:
        with trainable(made.model, parameters):
            losses = towards.losses(made.model)
            rate = min(RATE[0], RATE[1] * made.error)
            way = towards.epochs(made.model, parameters, EPOCHS, rate, config.seed, losses)
            for due, mean in progress.over(way, "refinement", EPOCHS):
                if due and not pays(made, parameters, (start, mean), judge):
                    break
    except FAULTS as fault:
        place(parameters, start, start, 0.0)
        reason = str(fault).partition("\n")[0]
        return made, _not_refined(f"its layers cannot be trained ({reason})")
    better, share = best(made, parameters, start, judge)
    gained = _gained(made, better, subject, found, parameters, start) if share else ()
    return better, Refinement(blocks=gained, share=share)


def _gained(
    made: Made,
    better: Made,
    subject: Subject,
    found: Sequence[Block],
    parameters: Sequence[nn.Parameter],
    start: Sequence[Tensor],
) -> tuple[RefinedBlock, ...]:
    """What blocks changed on held-out inputs, where they were at the start and where they are."""
    held = [ends(subject.model, found, batch) for batch in subject.held]
    here = [one.detach().clone() for one in parameters]
    after = gaps(made.model, found, subject.held, held)
    place(parameters, start, here, 0.0)
    before = gaps(made.model, found, subject.held, held)
    place(parameters, start, here, 1.0)
    if found[-1].end is None:  # the output, and each tensor of it counts by its own size
        before, after = [*before[:-1], made.error], [*after[:-1], better.error]
    rows = zip(found, before, after, strict=True)
    return tuple(RefinedBlock(layers=one.layers, before=x, after=y) for one, x, y in rows)


def pays(
    made: Made,
    parameters: Sequence[nn.Parameter],
    ends: tuple[Sequence[Tensor], Sequence[Tensor]],
    judge: Judge,
) -> bool:
    """Whether some share of the way between two ends brings a network nearer to the original.

    Its parameters are as before afterwards. Large steps miss what smaller ones will find: the mean
    of where they lead is near that.
    """
    here = [one.detach().clone() for one in parameters]
    limit = (1 - PAYS) * made.error
    found = any(_at(made, parameters, ends, share, judge) < limit for share in SHARES)
    place(parameters, here, here, 0.0)
    return found


def best(
    made: Made, parameters: Sequence[nn.Parameter], start: Sequence[Tensor], judge: Judge
) -> tuple[Made, float]:
    """Leave a network where it is nearest to the original on held-out inputs, on the way that it
    went; where a score counts, it must not have fallen."""
    end = [one.detach().clone() for one in parameters]
    if all(map(torch.equal, start, end)):
        return made, 0.0
    kept, found = 0.0, made
    for share in SHARES:
        error = _at(made, parameters, (start, end), share, judge)
        if error >= found.error:
            continue
        now = None if judge.evaluate is None else score(made.model, judge.evaluate)
        if now is None or made.score is None or now >= made.score:
            kept, found = share, replace(made, error=error, score=now)
    place(parameters, start, end, kept)
    return found, kept


def _at(
    made: Made,
    parameters: Sequence[nn.Parameter],
    ends: tuple[Sequence[Tensor], Sequence[Tensor]],
    share: float,
    judge: Judge,
) -> float:
    place(parameters, *ends, share)
    return judge.change(made.model)


@torch.no_grad()
def place(
    parameters: Sequence[nn.Parameter],
    start: Sequence[Tensor],
    end: Sequence[Tensor],
    share: float,
) -> None:
    """Give parameters what they have after a share of the way."""
    for one, first, last in zip(parameters, start, end, strict=True):
        one.copy_(torch.lerp(first, last, share) if share else first)


def _changed(model: nn.Module, subject: Subject) -> list[str]:
    """The layers that were factorized."""
    names = [layer.name for layer in subject.layers]
    kinds = (FactorizedConv, JointConv, Member)
    return [name for name in names if isinstance(model.get_submodule(name), kinds)]


def _not_refined(reason: str) -> Refinement:
    return Refinement(blocks=(), share=0.0, reason=reason)
