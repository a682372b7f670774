"""What a kernel is once its plan's weights are in eight bits, and how many bytes these take."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from ..network import GROUP, KernelNetwork
from ..plugin import Convolution
from .added import Added, Merged
from .chain import Chain
from .evening import even_weights
from .stage import Permutation

LARGEST = 127
SCALE = 5  # bytes of a channel's scale, a float, and of its zero point


class Stored(NamedTuple):
    """A kernel `(out, in/groups, *k)` as its rounded weights make it, and what these take."""

    kernel: Tensor
    bytes: int


def in_eight_bits(
    plan: Convolution, network: KernelNetwork, factors: Sequence[Tensor], transposed: bool
) -> Stored:
    """Round the weight of each convolution that a plan is exported as.

    As ONNX Runtime's quantizer does: to whole multiples, up to 127, of a step for each output
    channel, once the channels between two of them have nearly one range, as `export` does. Code of
    its own is exported as one dense convolution.
    """
    if isinstance(plan, Added):
        parts = zip(plan.plans, plan.terms, plan.parts(factors), strict=True)
        found = [
            in_eight_bits(one, plan.network.terms[some[0]], part, transposed)
            for one, some, part in parts
        ]
        kernel = torch.stack([one.kernel for one in found]).sum(0)
        return Stored(kernel, sum(one.bytes for one in found))
    if isinstance(plan, Chain):
        return _of_chain(plan, network, factors)
    whole = plan.network if isinstance(plan, Merged) else network
    return dense_in_eight_bits(whole.to_tensor(factors), network.groups, transposed)


def dense_in_eight_bits(kernel: Tensor, groups: int, transposed: bool) -> Stored:
    """Round a kernel `(out, in/groups, *k)`; of a transposed one the groups share their steps."""
    apart = kernel.unflatten(0, (groups, -1))
    rows = apart.transpose(0, 1) if transposed else kernel
    found = _rounded(rows, 0)
    made = found.transpose(0, 1).flatten(0, 1) if transposed else found
    return Stored(made, kernel.numel() + SCALE * len(rows))


def _of_chain(chain: Chain, network: KernelNetwork, factors: Sequence[Tensor]) -> Stored:
    size, weights = 0, []
    even = even_weights(chain.stages, [stage.weight(factors) for stage in chain.stages])
    for stage, weight in zip(chain.stages, even, strict=True):
        axis = int(stage.geometry.transposed)
        weights.append(_rounded(weight, axis).reshape([network.sizes[m] for m in stage.modes]))
        size += stage.times * (weight.numel() + SCALE * weight.shape[axis])
    permuted = [*(stage.permutation for stage in chain.stages), chain.permutation]
    size += sum(map(_bytes_of_order, permuted))
    used = {*network.open_modes, GROUP, *(mode for stage in chain.stages for mode in stage.modes)}
    sizes = {mode: size for mode, size in network.sizes.items() if mode in used}
    merged = KernelNetwork(tuple(stage.modes for stage in chain.stages), sizes)
    return Stored(merged.to_tensor(weights), size)


def _bytes_of_order(permutation: Permutation | None) -> int:
    """Those of a 1×1 convolution by zeros and ones, which rounding leaves as they are."""
    channels = 0 if permutation is None else prod(permutation.sizes)
    return channels * (channels + SCALE)


def _rounded(weight: Tensor, axis: int) -> Tensor:
    """To the nearest multiple of a step for each place of an axis: its largest number over 127."""
    others = [one for one in range(weight.dim()) if one != axis]
    largest = weight.abs().amax(others, keepdim=True) if others else weight.abs()
    step = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    return (weight / step).round() * step
