"""What a layer of a compressed network could be, to answer as the original does: the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...algebra import by_group, on_one_thread
from ...layer import TRANSPOSED, FactorizedConv, JointConv, Member, kernel_of, swap_channels
from ...network import KernelNetwork, terms_of
from ..candidates import evened, turned_for
from ..measurement import Replay
from ..moments import Importance, Norm, Seen, is_wide
from ..running import Batch
from ..survey import Layer
from .answers import Answer
from .regression import features, offset, refit, regress, solved
from .response import Response, responses

TOWARDS = 0.1  # of the mean diagonal: the pull to the original kernel
Fit = list[tuple[nn.Parameter, Tensor]]  # parameters, and new values for them


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
    found = towards(made, target, kernel.dtype, norm, groups, seed)
    if is_refitted(network):
        return refit(network, found, response)
    return found, offset(by_group(network.to_tensor(found), groups), response)


def towards(
    made: Any, target: Tensor, dtype: torch.dtype, norm: Norm, groups: int, seed: int
) -> list[Tensor]:
    """A layer's factors, nearer to a kernel in a norm: from where they are, if that can be."""
    network = made.weight.network
    turned = turned_for(made.weight.choice.plugin, target.to(dtype), norm, groups)
    found = turned.refined(network, present(made))
    if found is None:
        found = turned.factors(network, torch.Generator().manual_seed(seed))
    return [factor.to(target.dtype) for factor in found]


def present(made: Any) -> list[Tensor]:
    """The factors as they are."""
    return [factor.detach().double() for factor in made.weight.factors]


def factors(made: Any, found: Sequence[Tensor], bias: Tensor | None) -> Fit:
    """New factors and, where there is one, a bias."""
    fit: Fit = list(zip(made.weight.factors, evened(made.weight.network, found), strict=True))
    if made.bias is not None and bias is not None:
        fit.append((made.bias, bias))
    return fit
