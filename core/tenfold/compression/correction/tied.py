"""Layers that share one network fitted together, each to the original's responses to its inputs.

With the others fixed one factor's best is a least squares problem over the patches of all of them,
each weighed by what its outputs are worth: their moments are added up. Kernels of them all stand in
one tensor, `(out, in/groups, layers, *k)`, as in the network. All change at once, and with them
what the later ones see: each goes half of the way to what answers its present inputs best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ...algebra import by_group
from ...layer import JointConv, Member, kernel_of
from ..measurement import Replay
from ..moments import WIDE, Importance, Norm, Seen, groups_within, is_wide
from ..running import Batch
from ..survey import Layer
from ..tying import joined
from .answers import Answer
from .blocks import answered
from .fits import TOWARDS, Fit, factors, is_refitted, present, towards
from .regression import features, offset, regress, rows, solved
from .response import Response, responses


def ties(compressed: nn.Module, layers: Sequence[Layer]) -> list[list[Layer]]:
    """The layers that share their network with others."""
    found: dict[int, list[Layer]] = {}
    for layer in layers:
        made: Any = compressed.get_submodule(layer.name)
        if isinstance(made, JointConv | Member):
            joint = made if isinstance(made, JointConv) else made.joint
            found.setdefault(id(joint), []).append(layer)
    return list(found.values())


@torch.no_grad()
def fits_of_tied(
    original: nn.Module,
    compressed: nn.Module,
    layers: Sequence[Layer],
    names: Sequence[str],
    batches: Sequence[Batch],
    importance: Importance,
    seed: int,
    memory: int,
    known: Mapping[str, Answer],
) -> list[Fit]:
    """What to try for layers that share one network, the best first."""
    joint: Any = compressed.get_submodule(layers[0].name)
    if not is_refitted(joint.weight.network):
        return []
    seeds = _seeds(joint, present(joint))
    wide = _is_wide(joint, layers, memory, len(batches))
    asked = {n.name: one if wide else None for n, one in zip(layers, seeds, strict=True)}
    ((_, found),) = answered(original, [layers], batches, importance, seed, memory, known)
    replay = Replay(names, batches, memory // 2)
    sums = responses(compressed, layers, batches, found, asked, replay)
    if len(sums) < len(layers):  # one is not called on any of the batches
        return []
    seen = [sums[layer.name] for layer in layers]
    there = [rows(joint.weight.network, present(joint)).flatten(2)] * len(layers)
    if not wide:
        there = [last @ linear for last, linear in zip(there, seeds, strict=True)]
    heights = _heights(layers, seen, there, importance)
    seen = [
        one.halfway(kernel, member.bias).times(height)
        for one, kernel, member, height in zip(seen, there, joint, heights, strict=True)
    ]
    if wide:
        return [_refitted(joint, present(joint), seen)]
    kernels = [kernel_of(original.get_submodule(layer.name)) for layer in layers]
    nearer = _nearer(joint, kernels, seen, _worth(layers, seen, importance), seed)
    return [
        _refitted(joint, start, _projected(seen, _seeds(joint, start)))
        for start in (nearer, present(joint))
    ]


def _is_wide(joint: Any, layers: Sequence[Layer], memory: int, batches: int) -> bool:
    """Whether the sums over the whole patches of all layers at once would be too large."""
    rows_ = prod(joint.weight.shape[1:])
    whole = 8 * joint.weight.groups * rows_**2
    apart = len(list(groups_within(layers, memory, batches))) > 1
    return (
        rows_ > WIDE or whole > memory or apart or any(is_wide(n, memory, batches) for n in layers)
    )


def _seeds(joint: Any, found: Sequence[Tensor]) -> list[Tensor]:
    """What the output's factor multiplies, of each layer: `(groups, features, n)`."""
    shape = joint.weight.shape
    whole = features(joint.weight.network, found)
    assert whole is not None
    apart = whole.reshape(*whole.shape[:2], shape[1], shape[2], -1)
    return [one.flatten(2) for one in apart.unbind(3)]


def _projected(seen: Sequence[Response], seeds: Sequence[Tensor]) -> list[Response]:
    return [one.projected(linear) for one, linear in zip(seen, seeds, strict=True)]


def _heights(
    layers: Sequence[Layer],
    seen: Sequence[Response],
    kernels: Sequence[Tensor],
    importance: Importance,
) -> list[float]:
    """How much each layer's sums count: what its outputs are worth, else each output the same."""
    worths = [importance.channels.get(layer.name) for layer in layers]
    if all(one is not None for one in worths):
        return [_mean(one) / n.weight for one, n in zip(worths, seen, strict=True)]
    pairs = zip(kernels, seen, strict=True)
    energies = [float(((kernel @ one.seen) * kernel).sum()) for kernel, one in pairs]
    return [1 / one if one > 0 else 0.0 for one in energies]


def _worth(
    layers: Sequence[Layer], seen: Sequence[Response], importance: Importance
) -> Tensor | None:
    """What the outputs of all are worth, channel by channel; None where one's is not known."""
    worths = [importance.worth(layer) for layer in layers]
    known = [one / _mean(one) for one in worths if one is not None]
    if len(known) < len(layers):
        return None
    pairs = zip(known, seen, strict=True)
    return torch.stack([_mean(one.seen) * worth for worth, one in pairs]).sum(0)


def _nearer(
    joint: Any,
    kernels: Sequence[Tensor],
    seen: Sequence[Response],
    worth: Tensor | None,
    seed: int,
) -> list[Tensor]:
    """Factors fitted to each layer's regression, in the norm of all patches."""
    groups, like = joint.weight.groups, kernels[0]
    pairs = zip(kernels, seen, strict=True)
    targets = [regress(by_group(one, groups), response, TOWARDS) for one, response in pairs]
    target = torch.stack([one.flatten(0, 1) for one in targets], 2)
    moment = joined([one.seen for one in seen], like.shape[1:])
    norm = Norm.of(Seen(moment, count=sum(one.count for one in seen)), worth, like)
    return towards(joint, target, like.dtype, norm, groups, seed)


def _refitted(joint: Any, start: Sequence[Tensor], few: Sequence[Response]) -> Fit:
    """The output's factor by regression on all patches, and each layer's bias."""
    network = joint.weight.network
    found, _ = solved(network, start, added(few))
    fit = factors(joint, found, None)
    last = rows(network, found)
    for member, one in zip(joint, few, strict=True):
        if member.bias is not None:
            fit.append((member.bias, offset(last, one)))
    return fit


def added(some: Sequence[Response]) -> Response:
    """Sums over all the patches; the means stay those of the first."""
    seen, cross = (
        torch.stack(one).sum(0) for one in zip(*((r.seen, r.cross) for r in some), strict=True)
    )
    return replace(some[0], seen=seen, cross=cross, count=sum(one.count for one in some))


def _mean(moment: Any) -> float:
    return float(moment.diagonal(dim1=1, dim2=2).mean())
