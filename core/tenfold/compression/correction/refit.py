"""Fit the layers of a compressed network, in order, to the original's: no labels needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...algebra import by_group, on_one_thread
from ...layer import TRANSPOSED, FactorizedConv, JointConv, Member, kernel_of, swap_channels
from ...network import KernelNetwork, terms_of
from ..candidates import evened, turned_for
from ..measurement import Judge, Replay
from ..moments import Importance, Norm, Seen, is_wide
from ..running import Batch
from ..survey import Layer, neighbours
from .blocks import answered, blocks
from .regression import features, offset, refit, regress, solved
from .response import Answer, Response, responses

TOWARDS = 0.1  # of the mean diagonal: the pull to the original kernel
WORK = 2**34  # multiply-accumulates, roughly, of weighted least squares
Fit = list[tuple[nn.Parameter, Tensor]]  # parameters, and new values for them


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
    that need not be asked for.
    """
    kinds = (FactorizedConv, JointConv)
    changed = [isinstance(compressed.get_submodule(one.name), kinds) for one in layers]
    first = changed.index(True) if any(changed) else len(layers)
    yield from (layer.name for layer in layers[:first])
    error = judge.change(compressed)
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


@torch.no_grad()
def fits_of(
    original: nn.Module,
    compressed: nn.Module,
    block: Sequence[Layer],
    batches: Sequence[Batch],
    found: Mapping[str, Answer],
    seed: int,
    importance: Importance,
    memory: int,
    replay: Replay,
) -> list[list[Fit]]:
    """What to try for each layer of a block, the best first."""
    made: dict[str, Any] = {one.name: compressed.get_submodule(one.name) for one in block}
    wide = {one.name: is_wide(one, memory, len(batches)) for one in block}
    seeds = {name: seeds_of(made[name]) if wide[name] else None for name in wide}
    able = [one for one in block if seeds[one.name] is not None or not wide[one.name]]
    able = [one for one in able if not isinstance(made[one.name], JointConv | Member)]
    if not able:
        return []
    sums = responses(compressed, able, batches, found, seeds, replay)
    return [
        fits_of_one(
            made[one.name],
            kernel_of(original.get_submodule(one.name)),
            one,
            sums.pop(one.name),
            seeds[one.name] is not None,
            importance.worth(one),
            seed,
        )
        for one in able
        if one.name in sums
    ]


def seeds_of(made: Any) -> Tensor | None:
    """What the sums are over, of a factorized layer that is too wide for its whole patches."""
    if not isinstance(made, FactorizedConv):
        return None
    return features(made.weight.network, present(made))


def fits_of_one(
    made: Any,
    kernel: Tensor,
    layer: Layer,
    response: Response,
    by_features: bool,
    worth: Tensor | None,
    seed: int,
) -> list[Fit]:
    """What to try for one layer, the best first."""
    if not isinstance(made, FactorizedConv):
        return [dense(made, kernel, layer, response)]
    network = made.weight.network
    able = is_refitted(network)
    if by_features:
        return [factors(made, *solved(network, present(made), response))] if able else []
    with on_one_thread(max(kernel.numel(), response.seen.numel())):
        found = [factors(made, *nearer(made, kernel, response, worth, seed))]
        return [*found, factors(made, *refit(network, present(made), response))] if able else found


def is_refitted(network: KernelNetwork) -> bool:
    """Whether one factor may be regressed: of one network, without constants, its outputs whole."""
    return not network.constants and len(terms_of(network)) == len(network.outs) == 1


def dense(made: Any, kernel: Tensor, layer: Layer, response: Response) -> Fit:
    """The regression, for a layer that is no factorized one."""
    groups = layer.config.groups
    pull = max(TOWARDS, response.seen.shape[1] / response.count)
    fresh = regress(by_group(kernel, groups), response, pull)
    bias = offset(fresh, response)
    weight = fresh.flatten(0, 1)
    if isinstance(made, TRANSPOSED):
        weight = swap_channels(weight, groups)
    return [(made.weight, weight)] + ([] if made.bias is None else [(made.bias, bias)])


def nearer(
    made: FactorizedConv, kernel: Tensor, response: Response, worth: Tensor | None, seed: int
) -> tuple[list[Tensor], Tensor | None]:
    """Factors fitted to the regression, and the output's among them to the responses."""
    network, groups = made.weight.network, made.config.groups
    norm = Norm.of(Seen(response.seen, count=response.count), worth, kernel)
    target = regress(by_group(kernel, groups), response, TOWARDS).flatten(0, 1)
    turned = turned_for(made.weight.choice.plugin, target.to(kernel.dtype), norm, groups)
    found = turned.refined(network, present(made), WORK)
    if found is None:
        found = turned.factors(network, torch.Generator().manual_seed(seed))
    found = [factor.to(target.dtype) for factor in found]
    if is_refitted(network):
        return refit(network, found, response)
    return found, offset(by_group(network.to_tensor(found), groups), response)


def present(made: FactorizedConv) -> list[Tensor]:
    """The factors as they are."""
    return [factor.detach().double() for factor in made.weight.factors]


def factors(made: FactorizedConv, found: Sequence[Tensor], bias: Tensor | None) -> Fit:
    """New factors and, where there is one, a bias."""
    fit: Fit = list(zip(made.weight.factors, evened(made.weight.network, found), strict=True))
    if made.bias is not None and bias is not None:
        fit.append((made.bias, bias))
    return fit
