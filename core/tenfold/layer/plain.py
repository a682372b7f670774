"""A factorized layer as plain `torch.nn` modules, and as the call that made it."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from ..plugin import Convolution, Plan
from ..run import (
    PLAIN,
    TORCH_ORDER,
    TRANSPOSED,
    Added,
    Chain,
    Merged,
    block_diagonal,
    channels_last,
    modules_of,
)
from .parts import Parts
from .source import swap_channels

_PADS: dict[str, tuple[Any, Any, Any]] = {
    "zeros": (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
    "reflect": (nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    "replicate": (nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    "circular": (nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
}


@torch.no_grad()
def to_conv(layer: Parts) -> nn.Module:
    """The dense module with the layer's reconstructed kernel; see `FactorizedConv.to_conv`."""
    config, kernel = layer.config, layer.weight.to_tensor()
    _check_order(layer, "to_conv")
    if config.order == 0:
        weight = block_diagonal(kernel, config.groups)
        return _filled(
            nn.Linear(config.in_channels, config.out_channels, **_made(layer)), weight, layer
        )
    options: dict[str, Any] = {
        "stride": config.stride,
        "padding": config.padding,
        "dilation": config.dilation,
        "groups": config.groups,
        "padding_mode": config.padding_mode,
    }
    kinds = TRANSPOSED if config.transposed else PLAIN
    if config.transposed:
        options["output_padding"] = config.output_padding
        kernel = swap_channels(kernel, config.groups)
    make: Any = kinds[config.order - 1]
    conv = make(
        config.in_channels, config.out_channels, config.kernel_size, **options, **_made(layer)
    )
    return _filled(conv, kernel, layer)


def to_sequential(layer: Parts) -> nn.Sequential:
    """The layer's stages as modules; see `FactorizedConv.to_sequential`."""
    made = spelled(layer)
    if made is None:
        raise ValueError(
            f"implementation={layer.way.name!r} runs code of its own, which spells no modules: use "
            "to_conv() instead"
        )
    return made


def plain_form(layer: Parts) -> nn.Module:
    """The layer's stages as modules, or its dense module where its code spells none."""
    made = spelled(layer)
    return to_conv(layer) if made is None else made


@torch.no_grad()
def spelled(layer: Parts) -> nn.Sequential | None:
    """What the layer does, as modules one after another; None where a plan spells none."""
    _check_order(layer, "to_sequential")
    plan, config, bias = layer.inner, layer.config, layer.bias
    given = tuple(layer.weight.factors)
    pairs = [(plan, given)]
    if isinstance(plan, Added):
        pairs = [
            (one, tuple(part)) for one, part in zip(plan.plans, plan.parts(given), strict=True)
        ]
    stages: list[OrderedDict[str, nn.Module]] = []
    for one, part in pairs:
        found = _of_plan(one, part, None if stages else bias, layer)
        if found is None:
            return None
        stages.append(found)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    if config.sides is not None:
        sides = [side for pair in reversed(config.sides) for side in pair]
        modules["pad"] = _PADS[config.padding_mode][config.order - 1](tuple(sides))
    if len(stages) == 1:
        modules |= stages[0]
    else:
        modules["sum"] = _added([nn.Sequential(one) for one in stages])
    return nn.Sequential(modules).train(layer.training)


def _of_plan(
    plan: Convolution, factors: Sequence[Tensor], bias: nn.Parameter | None, layer: Parts
) -> OrderedDict[str, nn.Module] | None:
    """What one plan does, as modules; None for code of its own that spells none."""
    if isinstance(plan, Merged):
        return _of_plan(plan.chain, plan.kernel(factors), bias, layer)
    if isinstance(plan, Chain):
        stages = _stages(plan, factors, layer)
        if bias is not None:
            last = list(stages.values())[-1]
            last.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
        return stages
    if not isinstance(plan, Plan):
        return None
    copies = [factor.detach().clone() for factor in factors]
    own = plan.to_modules(copies, None if bias is None else bias.detach().clone())
    return None if own is None else OrderedDict((f"own{i}", one) for i, one in enumerate(own))


def _stages(chain: Chain, factors: Sequence[Tensor], layer: Parts) -> OrderedDict[str, nn.Module]:
    """The stages of a chain as modules without a bias."""
    found: OrderedDict[str, Any] = modules_of(chain.stages, chain.permutation, factors)
    return OrderedDict((name, _filled(one, one.weight, layer)) for name, one in found.items())


def _added(chains: Sequence[nn.Module]) -> nn.Module:
    """Chains whose outputs are added, as a graph of PyTorch's own, which needs no tenfold."""
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    total = graph.call_module("0", (x,))
    for index in range(1, len(chains)):
        total = graph.call_function(operator.add, (total, graph.call_module(str(index), (x,))))
    graph.output(total)
    return torch.fx.GraphModule({str(i): one for i, one in enumerate(chains)}, graph, "Sum")


def spell(layer: Parts, kind: str = "FactorizedConv") -> str:
    """The call that makes a layer of these shapes, with the realised rank."""
    config, kernel = layer.config, layer.weight
    ones, zeros = (1,) * config.order, (0,) * config.order
    defaults = {
        "stride": ones,
        "padding": zeros,
        "dilation": ones,
        "groups": 1,
        "bias": True,
        "padding_mode": "zeros",
        "transposed": False,
        "output_padding": zeros,
    }
    sizes = [config.in_channels, config.out_channels]
    words = [
        str(one) for one in (sizes if kind == "FactorizedLinear" else [*sizes, config.kernel_size])
    ]
    words += [
        f"{name}={getattr(config, name)!r}"
        for name, default in defaults.items()
        if getattr(config, name) != default
    ]
    words.append(f"rank={kernel.rank}, factorization={kernel.choice.spelled}")
    if layer.way.spelled != "'factorized'":
        words.append(f"implementation={layer.way.spelled}")
    if kernel.dtype != torch.get_default_dtype():
        words.append(f"dtype={kernel.dtype}")
    return f"{kind}({', '.join(words)})"


def _check_order(layer: Parts, name: str) -> None:
    if layer.config.order > TORCH_ORDER:
        raise ValueError(
            f"{name}() of a layer of order {layer.config.order}: torch.nn has convolutions up to "
            f"order {TORCH_ORDER}; keep the layer, or export it by torch.export"
        )


def _made(layer: Parts) -> dict[str, Any]:
    factor = layer.weight.factors[0]
    return {"bias": layer.config.bias, "device": factor.device, "dtype": factor.dtype}


def _filled(module: Any, weight: Tensor, layer: Parts) -> nn.Module:
    """Give `module` its weight and the layer's bias, state and memory format."""
    weight = weight.reshape(module.weight.shape).to(module.weight)
    if layer.channels_last and weight.dim() > 3:
        weight = channels_last(weight)
    module.weight = nn.Parameter(weight, any(one.requires_grad for one in layer.weight.factors))
    if module.bias is not None and layer.bias is not None:
        module.bias = nn.Parameter(layer.bias.detach().clone(), layer.bias.requires_grad)
    filled: nn.Module = module.train(layer.training)
    return filled
