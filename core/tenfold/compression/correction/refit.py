"""Fit the layers of a compressed network, in order, to the original's: no labels needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...algebra import by_group
from ...layer import TRANSPOSED, FactorizedConv, read_kernel, swap_channels
from ...network import KernelNetwork
from ..candidates import Turned, evened
from ..measurement import Judge
from ..moments import Importance, Norm, Seen, is_wide
from ..running import Batch
from ..survey import Layer
from .regression import features, offset, refit, regress, solved
from .response import Response, respond

TOWARDS = 0.1  # of the mean diagonal: the pull to the original kernel
WORK = 2**35  # multiply-accumulates, roughly, of weighted least squares
Fit = list[tuple[nn.Parameter, Tensor]]  # parameters, and new values for them


def correct(
    original: nn.Module,
    compressed: nn.Module,
    layers: Sequence[Layer],
    batches: Sequence[Batch],
    judge: Judge,
    seed: int,
    importance: Importance,
    memory: int,
) -> Iterator[str]:
    """Refit each of the layers of `compressed`, in order; yield its name when it is done.

    The kernel is regressed onto the original's response from the compressed network's input, with a
    ridge towards the original kernel (asymmetric reconstruction: Zhang et al. 2016, arXiv
    1505.06798). A dense layer takes it as it is, a factorized one as near as its ranks allow. What
    stands before anything that was changed stays, and so does a layer whose refit does not lower
    the output's change on held-out inputs.
    """
    error = judge.change(compressed)
    changed = False
    for layer in layers:
        made = compressed.get_submodule(layer.name)
        changed = changed or isinstance(made, FactorizedConv)
        if changed:
            for fit in fits_of(original, compressed, layer, batches, seed, importance, memory):
                error = kept(fit, judge, compressed, error)
        yield layer.name


@torch.no_grad()
def kept(fit: Fit, judge: Judge, compressed: nn.Module, error: float) -> float:
    """Give a layer new values; take them back where the error does not fall."""
    before = [parameter.clone() for parameter, _ in fit]
    for parameter, value in fit:
        parameter.copy_(value)
    found = judge.change(compressed)
    if found < error:
        return found
    for (parameter, _), value in zip(fit, before, strict=True):
        parameter.copy_(value)
    return error


@torch.no_grad()
def fits_of(
    original: nn.Module,
    compressed: nn.Module,
    layer: Layer,
    batches: Sequence[Batch],
    seed: int,
    importance: Importance,
    memory: int,
) -> Iterator[Fit]:
    """What to try for one layer, one after another."""
    made: Any = compressed.get_submodule(layer.name)
    factorized, wide = isinstance(made, FactorizedConv), is_wide(layer, memory)
    if factorized and not is_refitted(made.weight.network):
        return
    seeds = features(made.weight.network, present(made)) if factorized and wide else None
    if wide and seeds is None:
        return
    response = respond(original, compressed, layer, batches, seed, importance, seeds)
    if response is None:
        return
    kernel = read_kernel(original.get_submodule(layer.name))
    if not factorized:
        yield dense(made, kernel, layer, response)
    elif seeds is not None:
        yield factors(made, *solved(made.weight.network, present(made), response))
    else:
        yield factors(made, *refit(made.weight.network, present(made), response))
        worth = importance.channels.get(layer.name)
        yield factors(made, *nearer(made, kernel, response, worth, seed))


def is_refitted(network: KernelNetwork) -> bool:
    """Whether the regression knows its factors: it has no constants, and its outputs are whole."""
    return not network.constants and len(network.outs) == 1


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
    turned = Turned(made.weight.choice.plugin, target, norm, groups)
    found = turned.refined(network, present(made), WORK)
    if found is None:
        found = turned.factors(network, torch.Generator().manual_seed(seed))
    return refit(network, found, response)


def present(made: FactorizedConv) -> list[Tensor]:
    """The factors as they are."""
    return [factor.detach().double() for factor in made.weight.factors]


def factors(made: FactorizedConv, found: Sequence[Tensor], bias: Tensor | None) -> Fit:
    """New factors and, where there is one, a bias."""
    fit: Fit = list(zip(made.weight.factors, evened(found), strict=True))
    if made.bias is not None and bias is not None:
        fit.append((made.bias, bias))
    return fit
