"""Fit the layers of a compressed network, in order, to the original's: no labels needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import nn

from ...layer import FactorizedConv, JointConv
from ..measurement import Judge, Replay
from ..moments import Importance
from ..running import Batch
from ..survey import Layer, neighbours
from .answers import Answer
from .blocks import answered, blocks
from .fits import Fit, fits_of
from .tied import fits_of_tied, ties

HALVINGS = 3  # of what layers that share one network are off


def correct(
    original: nn.Module,
    compressed: nn.Module,
    layers: Sequence[Layer],
    names: Sequence[str],
    batches: Sequence[Batch],
    judge: Judge,
    seed: int,
    importance: Importance,
    memory: int,
    known: Mapping[str, Answer],
) -> Iterator[str]:
    """Refit each of the layers of `compressed`, in order; yield its name when it is done.

    The kernel is regressed onto the original's response from the compressed network's input, with a
    ridge towards the original kernel (asymmetric reconstruction: Zhang et al. 2016, arXiv
    1505.06798). A dense layer takes it as it is, a factorized one as near as its ranks allow. What
    stands before anything that was changed stays, and so do layers whose refit does not lower the
    output's change on held-out inputs.

    Neighbours are refitted together, from one run of the compressed network, where there are more
    layers than blocks: the number of runs does not grow with the depth. What is in front of them is
    run no more. `names` are those of all layers, in their order; `known` are the original's answers
    that need not be asked for. Layers that share one network come before the others, all of its
    together.
    """
    kinds = (FactorizedConv, JointConv)
    changed = [isinstance(compressed.get_submodule(one.name), kinds) for one in layers]
    first = changed.index(True) if any(changed) else len(layers)
    yield from (layer.name for layer in layers[:first])
    error = judge.change(compressed)
    for tie in ties(compressed, layers):
        for _ in range(HALVINGS):
            tied = fits_of_tied(
                original, compressed, tie, names, batches, importance, seed, memory, known
            )
            before, error = error, best([tied], partial(judge.change, compressed), error)
            if error == before:
                break
    parts = blocks(layers[first:], memory, len(batches))
    seen, judged = (Replay(names, some, memory // 2) for some in (batches, judge.batches))
    for block, found in answered(original, parts, batches, importance, seed, memory, known):
        name = block[0].name
        fits = fits_of(original, compressed, block, batches, found, seed, importance, memory, seen)
        error = best(fits, partial(judge.onwards, compressed, name, judged), error)
        yield from (layer.name for layer in block)


def best(fits: Sequence[Sequence[Fit]], judge: Callable[[], float], error: float) -> float:
    """Try what there is for each layer of a block, for all of them together, until it helps.

    Where none of it does, for one half of them and then for the other.
    """
    before = error
    for turn in range(max(map(len, fits), default=0)):
        together = [part for fit in fits if fit for part in fit[min(turn, len(fit) - 1)]]
        error = kept(together, judge, error)
        if error < before:
            return error
    if len(fits) < 2:
        return error
    for half in neighbours(fits, 2):
        together = [part for fit in half if fit for part in fit[0]]
        error = kept(together, judge, error)
    return error


@torch.no_grad()
def kept(fit: Fit, judge: Callable[[], float], error: float) -> float:
    """Give layers new values; take them back where the error does not fall."""
    before = [parameter.clone() for parameter, _ in fit]
    for parameter, value in fit:
        parameter.copy_(value)
    found = judge()
    if found < error:
        return found
    for (parameter, _), value in zip(fit, before, strict=True):
        parameter.copy_(value)
    return error
