"""The channels between two convolutions, brought to nearly one range.

What passes from one factor to the next has channels as different in size as singular values are,
and in eight bits one step for all of them. A channel may be divided by any number where it is made
and multiplied by it where it is taken (Nagel et al. 2019, arXiv 1906.04721): here by its range,
less what that costs the weight that takes it (Xiao et al. 2022, arXiv 2211.10438).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .stage import Stage

SHARE = 0.75  # of the way to one range; the rest of it goes to one range of the weight
LEAST = 1e-3  # of the largest range: what is smaller may be larger elsewhere


def by_channel(weight: Tensor, groups: int, transposed: bool, made: bool) -> Tensor:
    """A view of a weight, `(groups, others, channels of a group, taps)`, the channels being those
    that it makes, or takes."""
    view = weight.view(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return view.transpose(1, 2) if made != transposed else view


def part_evenly(made: Tensor, taken: Tensor, ranges: Tensor) -> Tensor:
    """Divide channels where they are made, and multiply them where they are taken; by what.

    Both are views of weights, which are changed; `ranges` are those of the channels.
    """
    weights = taken.abs().amax((1, 3)).flatten()
    if not bool(ranges.max() > 0 and weights.max() > 0):
        return ranges.new_ones(())
    scale = _floored(ranges) ** SHARE / _floored(weights) ** (1 - SHARE)
    made.div_(scale.reshape(len(made), 1, -1, 1))
    taken.mul_(scale.reshape(len(taken), 1, -1, 1))
    return scale


def even_weights(stages: Sequence[Stage], weights: Sequence[Tensor]) -> list[Tensor]:
    """Copies that give the same, with channels of nearly one range for inputs of no structure."""
    found = [weight.contiguous().clone() for weight in weights]
    for place, after in enumerate(stages[1:]):
        before = stages[place]
        if after.permutation is not None or before.times * after.times > 1:
            continue
        made, taken = (
            by_channel(found[at], one.groups, one.geometry.transposed, at == place)
            for at, one in ((place, before), (place + 1, after))
        )
        part_evenly(made, taken, made.square().sum((1, 3)).sqrt().flatten())
    return found


def _floored(sizes: Tensor) -> Tensor:
    return sizes.clamp_min(LEAST * float(sizes.max()))
