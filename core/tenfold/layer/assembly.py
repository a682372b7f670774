"""From a request to the parts of a layer: drawn afresh, or converted from a trained convolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..arguments import (
    check_device,
    check_dtype,
    check_flag,
    check_generator,
    check_tensor,
)
from ..network import terms_of
from ..plugin import (
    Choice,
    Convolution,
    Factorization,
    Implementation,
    factorizations,
    implementations,
)
from ..run import ask, make_plan
from ..solve import check_finite, fit, structure, with_options
from .config import ConvConfig
from .kernel import FactorizedKernel, allocate
from .moment import Moment, check_moment
from .source import read_config, read_kernel, settled


class Assembly(NamedTuple):
    """What a layer is put together from."""

    config: ConvConfig
    kernel: FactorizedKernel
    runner: Choice[Implementation]
    plan: Convolution
    bias: Tensor | None  # copied into the layer


def fresh(
    config: ConvConfig,
    *,
    rank: Any,
    factorization: str | Factorization | type[Factorization],
    implementation: str | Implementation | type[Implementation],
    device: Any,
    dtype: Any,
    generator: Any,
) -> Assembly:
    """A layer whose numbers are still to be drawn; see `FactorizedConv`."""
    like = torch.empty(0, device=check_device(device), dtype=check_dtype(dtype))
    check_generator(generator)
    choice = factorizations.choose(factorization)
    network = structure(choice.plugin, config.shape, rank, config.groups, None)
    runner = implementations.choose(implementation)
    plan = make_plan(choice, network, runner, config.geometry)
    kernel = FactorizedKernel(network, allocate(network, like), choice)
    bias = like.new_empty(config.out_channels) if config.bias else None
    return Assembly(config, kernel, runner, plan, bias)


def converted(
    conv: Any,
    *,
    rank: Any,
    factorization: str | Factorization | type[Factorization],
    implementation: str | Implementation | type[Implementation],
    decompose_weights: bool,
    decomposition_kwargs: Mapping[str, Any] | None,
    moment: Moment | None,
    generator: torch.Generator | None,
) -> Assembly:
    """A trained convolution's layer; see `FactorizedConv.from_conv`."""
    config = read_config(conv)
    conv = settled(conv)
    weight = read_kernel(conv)
    check_flag("decompose_weights", decompose_weights)
    check_generator(generator)
    check_moment(moment)
    choice = factorizations.choose(factorization)
    runner = implementations.choose(implementation)
    plugin = with_options(choice.plugin, decomposition_kwargs)
    smallest = choice.plugin.network(config.shape, 1, config.groups)
    for term in terms_of(smallest):  # a refusal comes before the work
        ask(choice, term, runner, config.geometry)
    if decompose_weights:
        check_finite(weight)
        network, factors = fit(plugin, weight, rank, config.groups, generator, moment)
    else:
        network = structure(plugin, config.shape, rank, config.groups, None)
        factors = [weight.new_empty(shape) for shape in network.shapes]
    plan = make_plan(choice, network, runner, config.geometry)
    kernel = FactorizedKernel(network, factors, choice)
    if not decompose_weights:
        kernel.reset_parameters(1 / (3 * config.fan_in), generator)
    return Assembly(config, kernel, runner, plan, conv.bias)


def around(
    kernel: FactorizedKernel,
    *,
    implementation: str | Implementation | type[Implementation],
    bias: Tensor | None,
    **geometry: int | Sequence[int] | str | bool,
) -> Assembly:
    """A layer around a kernel; see `FactorizedConv.from_factorization`."""
    if not isinstance(kernel, FactorizedKernel):
        raise TypeError(
            f"kernel={type(kernel).__name__} must be a FactorizedKernel: make one by "
            "FactorizedKernel.from_tensor"
        )
    out_channels, per_group, *kernel_size = kernel.shape
    if bias is not None and tuple(check_tensor("bias", bias).shape) != (out_channels,):
        raise ValueError(f"bias of shape {tuple(bias.shape)} must have ({out_channels},)")
    config = ConvConfig.parse(
        in_channels=per_group * kernel.groups,
        out_channels=out_channels,
        kernel_size=tuple(kernel_size),
        groups=kernel.groups,
        bias=bias is not None,
        order=None,
        **geometry,
    )
    runner = implementations.choose(implementation)
    plan = make_plan(kernel.choice, kernel.network, runner, config.geometry)
    return Assembly(config, kernel, runner, plan, bias)
