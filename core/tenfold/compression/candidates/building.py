"""The layer that a candidate stands for, in its place."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ...layer import (
    FactorizedConv,
    FactorizedKernel,
    copy_state,
    exchange,
    kernel_of,
    swap_channels,
)
from ...network import KernelNetwork, parts_of, terms_of
from ...plugin import factorizations
from ...run import in_eight_bits
from ...solve import relative_error
from ..survey import Layer
from .candidate import Candidate
from .truncation import leading


def build(
    conv: Any, layer: Layer, candidate: Candidate, factors: Sequence[Tensor]
) -> FactorizedConv:
    """The layer that a candidate stands for, with the state, bias and hooks of `conv`.

    One that is factorized already keeps its format and how it is run.
    """
    config = layer.config
    assert candidate.factorization is not None
    assert candidate.implementation is not None
    if isinstance(conv, FactorizedConv):
        choice = conv.weight.choice
        network = choice.plugin.network(config.shape, candidate.rank, config.groups)
        made = copy.deepcopy(conv)
        kernel = FactorizedKernel(network, evened(network, factors), choice)
        kernel.requires_grad_(conv.weight.factors[0].requires_grad)
        exchange(made, kernel.train(conv.training))
        return made
    choice = factorizations.choose(layer.request.get("factorization", candidate.factorization))
    way = layer.request.get("implementation", candidate.implementation)
    network = choice.plugin.network(config.shape, candidate.rank, config.groups)
    if candidate.part_of is not None:
        factors = leading(network, factors)
    made = FactorizedConv.from_factorization(
        FactorizedKernel(network, evened(network, factors), choice),
        implementation=way,
        bias=conv.bias,
        stride=config.stride,
        padding=config.padding,
        dilation=config.dilation,
        padding_mode=config.padding_mode,
        transposed=config.transposed,
        output_padding=config.output_padding,
    )
    copy_state(conv, made)
    return made


@torch.no_grad()
def rounded(conv: Any, made: FactorizedConv) -> nn.Module:
    """A dense layer with the kernel of a built one in eight bits, and the state of `conv`."""
    config, weight = made.config, made.weight
    found = in_eight_bits(made.plan, weight.network, tuple(weight.factors), config.transposed)
    kernel = swap_channels(found.kernel, config.groups) if config.transposed else found.kernel
    dense: Any = made.to_conv()
    dense.weight.copy_(kernel)
    if not isinstance(conv, FactorizedConv):  # else the layer has its state already
        copy_state(conv, dense)
    stand_in: nn.Module = dense
    return stand_in


def kernel_error(conv: Any, layer: Layer, candidate: Candidate, factors: Sequence[Tensor]) -> float:
    """That of a candidate, as it was measured; else its kernel is made now."""
    if candidate.kernel_error is not None:
        return candidate.kernel_error
    return relative_error(kernel_of(conv), kernel_of(build(conv, layer, candidate, factors)))


def evened(network: KernelNetwork, factors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of equal norms, but for constants, whose kernel is the same: they train better.

    Of a sum, within each of its terms.
    """
    found = []
    for term, part in zip(terms_of(network), parts_of(network, factors), strict=True):
        norms = {index: float(part[index].double().norm()) for index in term.free}
        mean = prod(norms.values()) ** (1 / len(norms))
        gains = {index: mean / norm for index, norm in norms.items()} if mean else {}
        found += [factor * gains.get(index, 1.0) for index, factor in enumerate(part)]
    return found


def put(model: nn.Module, layer: Layer, module: nn.Module) -> None:
    """Put a module in every place of `layer`."""
    for name in layer.names:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module)
