"""The layer that a candidate stands for, in its place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from ...layer import FactorizedConv, FactorizedKernel, copy_state
from ...plugin import factorizations
from ..survey import Layer
from .candidate import Candidate
from .truncation import leading


def build(
    conv: Any, layer: Layer, candidate: Candidate, factors: Sequence[Tensor]
) -> FactorizedConv:
    """The layer that a candidate stands for, with the state, bias and hooks of `conv`."""
    config = layer.config
    assert candidate.factorization is not None
    assert candidate.implementation is not None
    choice = factorizations.choose(layer.request.get("factorization", candidate.factorization))
    way = layer.request.get("implementation", candidate.implementation)
    network = choice.plugin.network(config.shape, candidate.rank, config.groups)
    if candidate.part_of is not None:
        factors = leading(network, factors)
    made = FactorizedConv.from_factorization(
        FactorizedKernel(network, evened(factors, network.constants), choice),
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


def evened(factors: Sequence[Tensor], constants: Collection[int] = ()) -> list[Tensor]:
    """Copies of equal norms, but for constants, whose network is the same: they train better."""
    norms = [float(factor.double().norm()) for factor in factors]
    learned = [norm for index, norm in enumerate(norms) if index not in constants]
    mean = prod(learned) ** (1 / len(learned))
    norms = [mean if index in constants else norm for index, norm in enumerate(norms)]
    return [f * (mean / n) if mean else f.clone() for f, n in zip(factors, norms, strict=True)]


def put(model: nn.Module, layer: Layer, module: nn.Module) -> None:
    """Put a module in every place of `layer`."""
    for name in layer.names:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module)
