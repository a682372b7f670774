"""The ways to a joint layer: from arguments, a list of convolutions, a kernel of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import nn

from ..arguments import check_device, check_dtype, check_generator
from ..plugin import Factorization, Implementation, factorizations
from ..run import is_channels_last
from ..solve import check_finite, fit, structure, with_options
from .config import ConvConfig
from .joint import JointConv
from .kernel import FactorizedKernel
from .source import read_config, read_kernel, settled
from .spectral import check_init
from .undrawn import allocate

Layers = int | Sequence[int]


class Joined:
    """The ways from a `FactorizedConv`, whose class method this is, to a `JointConv`.

    >>> issubclass(FactorizedConv, Joined)
    True
    """

    def __new__(cls, *given: Any, n_layers: Layers | None = None, **named: Any) -> Any:
        if n_layers is None:
            return super().__new__(cls)
        return fresh(cls, n_layers, *given, **named)

    @classmethod
    def from_conv_list(
        cls,
        convs: Sequence[Any],
        *,
        n_layers: Layers | None = None,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "cp",
        implementation: str | Implementation | type[Implementation] = "factorized",
        decomposition_kwargs: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> JointConv:
        """Decompose the kernels of some convolutions of one shape together, to a `JointConv`.

        They may differ in stride, padding, dilation and bias; they stay untouched. A fraction as
        `rank` is one of the parameters of all. Raises `ValueError` or `TypeError`, before anything
        is made, for no convolutions, different shapes, dtypes or devices, or a bad argument.

        >>> convs = [nn.Conv2d(4, 4, 3, stride=stride) for stride in (1, 2)]
        >>> joint = FactorizedConv.from_conv_list(convs, rank=10**9, factorization="tucker")
        >>> x = torch.randn(1, 4, 8, 8)
        >>> relative_error(convs[1](x), joint(x, 1)) < 1e-4
        True
        """
        if not isinstance(convs, Sequence | nn.ModuleList) or not len(convs):
            raise ValueError(f"convs={convs!r} must be a list of convolutions, of at least one")
        convs = [settled(conv) for conv in convs]
        configs = [read_config(conv) for conv in convs]
        check_alike(convs, configs)
        numbers = counted(len(convs) if n_layers is None else n_layers)
        if prod(numbers) != len(convs):
            raise ValueError(f"n_layers={n_layers!r} must number the {len(convs)} convolutions")
        check_generator(generator)
        kernels = torch.stack([read_kernel(conv) for conv in convs], 2)
        check_finite(kernels)
        choice = factorizations.choose(factorization)
        plugin = with_options(choice.plugin, decomposition_kwargs)
        whole = kernels.reshape(*kernels.shape[:2], *numbers, *kernels.shape[3:])
        found = FactorizedKernel(*fit(plugin, whole, rank, configs[0].groups, generator), choice)
        biases = [conv.bias for conv in convs]
        made = JointConv(found, numbers, configs, biases, implementation, cls)
        made.weight.requires_grad_(any(conv.weight.requires_grad for conv in convs))
        for member, conv in zip(made, convs, strict=True):
            member.channels_last = is_channels_last(conv.weight)
            if member.bias is not None:
                member.bias.requires_grad_(conv.bias.requires_grad)
        return made.train(any(conv.training for conv in convs))


def fresh(
    single: type,
    n_layers: Layers,
    in_channels: int,
    out_channels: int,
    kernel_size: int | Sequence[int],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    bias: Any = True,
    padding_mode: Any = "zeros",
    *,
    order: int | None = None,
    rank: Any = "same",
    factorization: str | Factorization | type[Factorization] = "cp",
    implementation: str | Implementation | type[Implementation] = "factorized",
    transposed: bool = False,
    output_padding: int | Sequence[int] = 0,
    init: str = "variance",
    device: Any = None,
    dtype: Any = None,
    generator: torch.Generator | None = None,
) -> JointConv:
    """A joint layer whose numbers are drawn; a list of strides and so on has one for each layer."""
    check_init(init)
    numbers = counted(n_layers)
    given = {"stride": stride, "padding": padding, "dilation": dilation, "bias": bias}
    common: dict[str, Any] = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "order": order,
    }
    common |= {"kernel_size": kernel_size, "groups": groups, "transposed": transposed}
    common |= {"output_padding": output_padding}
    configs = parsed(numbers, {**given, "padding_mode": padding_mode}, common)
    like = torch.empty(0, device=check_device(device), dtype=check_dtype(dtype))
    check_generator(generator)
    choice = factorizations.choose(factorization)
    first = configs[0]
    shape = (*first.shape[:2], *numbers, *first.kernel_size)
    network = structure(choice.plugin, shape, rank, groups, None)
    kernel = FactorizedKernel(network, allocate(network, like), choice)
    biases = [like.new_empty(first.out_channels) if one.bias else None for one in configs]
    made = JointConv(kernel, numbers, configs, biases, implementation, single)
    made.init = init
    made.reset_parameters(generator)
    return made


def around(
    single: type,
    kernel: FactorizedKernel,
    n_layers: Layers,
    implementation: str | Implementation | type[Implementation],
    bias: Any,
    **geometry: Any,
) -> JointConv:
    """A joint layer around a kernel; `bias` is a tensor for all, or a list of one for each."""
    numbers = counted(n_layers)
    shape = kernel.shape
    if shape[2 : 2 + len(numbers)] != numbers:
        raise ValueError(f"kernel of shape {shape} must be (out, in/groups, *{numbers}, *k)")
    biases = list(bias) if isinstance(bias, list) else [bias] * prod(numbers)
    if len(biases) != prod(numbers):
        raise ValueError(f"bias has {len(biases)} entries for {prod(numbers)} layers")
    common = {
        "in_channels": shape[1] * kernel.groups,
        "out_channels": shape[0],
        "kernel_size": shape[2 + len(numbers) :],
        "order": None,
        "groups": kernel.groups,
        "transposed": geometry.pop("transposed"),
        "output_padding": geometry.pop("output_padding"),
    }
    geometry["bias"] = [one is not None for one in biases]
    configs = parsed(numbers, geometry, common)
    return JointConv(kernel, numbers, configs, biases, implementation, single)


def counted(n_layers: Any) -> tuple[int, ...]:
    """The numbers of layers as a tuple; a `ValueError` for what is none."""
    found = tuple(n_layers) if isinstance(n_layers, Sequence) else (n_layers,)
    if not found or not all(type(one) is int and one >= 1 for one in found):
        raise ValueError(f"n_layers={n_layers!r} must be an int of at least 1, or a tuple of them")
    return found


def parsed(
    numbers: tuple[int, ...], each: Mapping[str, Any], common: Mapping[str, Any]
) -> list[ConvConfig]:
    """The arguments of each layer; a list has one for each, anything else is all layers'."""
    total = prod(numbers)
    for name, value in each.items():
        if isinstance(value, list) and len(value) != total:
            raise ValueError(
                f"{name}={value!r} as a list has one for each of {total} layers: a tuple has one "
                "for each axis"
            )
    lists = {
        name: value if isinstance(value, list) else [value] * total for name, value in each.items()
    }
    return [
        ConvConfig.parse(**common, **{name: values[place] for name, values in lists.items()})
        for place in range(total)
    ]


def check_alike(convs: Sequence[Any], configs: Sequence[ConvConfig]) -> None:
    """Refuse convolutions of different shapes, kinds, dtypes or devices, with a `ValueError`."""
    for place, (conv, config) in enumerate(zip(convs, configs, strict=True)):
        for what, mine, theirs in (
            ("kernel", config.shape, configs[0].shape),
            ("groups", config.groups, configs[0].groups),
            ("transposed", config.transposed, configs[0].transposed),
            ("dtype", conv.weight.dtype, convs[0].weight.dtype),
            ("device", conv.weight.device, convs[0].weight.device),
        ):
            if mine != theirs:
                raise ValueError(
                    f"convs[{place}] has {what} {mine} and convs[0] {theirs}: a joint layer is of "
                    "one shape, dtype and device; group them"
                )
