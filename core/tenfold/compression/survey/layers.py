"""Which convolutions and linear layers a network has, found by running it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from ...layer import PLAIN, TRANSPOSED, ConvConfig, FactorizedConv, read_config
from ..running import Batch, call, evaluating
from .layer import Layer
from .remedies import remedy, set_by_hand

KINDS = (*PLAIN, *TRANSPOSED, nn.Linear)
FAULTS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)
READERS = (nn.MultiheadAttention,)  # they read their layers' weights


def survey(model: nn.Module, example_inputs: Batch) -> list[Layer]:
    """Run `model` once and list its layers in the order of their first call.

    A module that stands in several places is one layer; each of its calls counts. The model is left
    as it was. A layer that cannot be replaced has a `reason`.

    Raises `ValueError` for a network without any that is called, and where
    `example_inputs` has no sample.
    """
    layers = listed(model)
    called: list[Layer] = []
    produced: dict[int, tuple[Tensor, Layer]] = {}
    handles: list[Any] = []

    def count(module: nn.Module, given: Any, keywords: Any, output: Any) -> None:
        layer = layers[module]
        if layer not in called:
            called.append(layer)
        if not given:
            layer.reason = "it is called by a keyword, input=: call it with the tensor alone"
        x = given[0] if given else keywords["input"]
        layer.shapes.append(tuple(x.shape))
        if isinstance(output, Tensor):
            produced[id(output)] = (output, layer)

    names = {module: name for name, module in model.named_modules()}

    def follow(module: nn.Module, given: Any) -> None:
        if given and id(given[0]) in produced:
            produced[id(given[0])][1].follower = names[module]

    for module in model.modules():
        if module in layers:
            handles.append(module.register_forward_hook(count, with_kwargs=True))
        elif isinstance(module, _BatchNorm):
            handles.append(module.register_forward_pre_hook(follow))
    try:
        with evaluating(model):
            call(model, example_inputs)
    except FAULTS as fault:
        reason = str(fault).partition("\n")[0]
        several = isinstance(example_inputs, list) and len(example_inputs) > 1
        alone = "; a list that is one argument is given as ([…],)" if several else ""
        raise ValueError(f"example_inputs do not run through the model: {reason}{alone}") from fault
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise ValueError(
            "the model calls no convolution or linear layer on example_inputs" + set_by_hand(model)
        )
    if not any(layer.macs for layer in called):
        raise ValueError("example_inputs is empty: give at least one sample")
    return called


def listed(model: nn.Module) -> dict[nn.Module, Layer]:
    """The layers that a model holds, called or not, in the order of its modules.

    As `survey` finds them, without the shapes of inputs, which only a run tells.
    """
    layers: dict[nn.Module, Layer] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if module in layers:
            layers[module].names.append(name)
        elif isinstance(module, FactorizedConv):
            layers[module] = _factorized(name, module)
        elif isinstance(module, KINDS):
            layers[module] = _describe(model, name, module)
    return layers


def _factorized(name: str, module: FactorizedConv) -> Layer:
    already = f"it is factorized already ({module.factorization}, rank {module.rank})"
    parameters = sum(p.numel() for p in module.parameters())
    kind = type(module).__name__
    return Layer([name], kind, module.config, parameters, reason=already, already=already)


def not_rounded(module: Any) -> str | None:
    """Why a layer that is factorized already gets no smaller bonds, if it does not."""
    weight = module.weight
    if weight.dtype.is_complex:
        return "it is complex: give it smaller bonds by itself, with its round"
    if weight.factors._forward_pre_hooks or any(is_parametrized(one) for one in weight.modules()):
        return "its factors are made of others (a parametrization, pruning's masks)"
    return None


def _describe(model: nn.Module, name: str, module: Any) -> Layer:
    parameters = sum(p.numel() for p in module.parameters())
    kind = next(kind for kind in KINDS if isinstance(module, kind))
    parent = model.get_submodule(name.rpartition(".")[0]) if name else model
    reason = None
    if not name:
        reason = "it is the whole model: put it in an nn.Sequential"
    elif not {"weight", "bias"} <= module._parameters.keys():
        reason = f"its weight is computed from others ({remedy(module)} makes it one that is not)"
    elif isinstance(parent, READERS):
        reason = f"its {type(parent).__name__} reads its weight without calling it"
    elif sum(module.weight is p for m in model.modules() for p in m._parameters.values()) > 1:
        reason = "its weight is shared with another module"
    own = False
    try:
        config = read_config(module)
    except (TypeError, ValueError) as fault:
        reason = reason or str(fault)
        config, own = _bare(module), True
    if reason is None and module.weight.is_complex():
        reason = "its weight is complex: convert it by itself, with FactorizedConv.from_conv"
    if reason is None and config.in_channels == config.groups > 1:
        reason = "it is depthwise: there is nothing to gain"
    return Layer(
        [name],
        type(module).__name__ if reason is None else kind.__name__,
        config,
        parameters,
        reason=reason,
        own=own,
    )


def _bare(module: Any) -> ConvConfig:
    """The shape of a layer that computes something of its own."""
    linear = isinstance(module, nn.Linear)
    order = 0 if linear else len(module.kernel_size)
    return ConvConfig.parse(
        in_channels=module.in_features if linear else module.in_channels,
        out_channels=module.out_features if linear else module.out_channels,
        kernel_size=() if linear else module.kernel_size,
        stride=1 if linear else module.stride,
        padding=0 if linear else module.padding,
        dilation=1 if linear else module.dilation,
        groups=1 if linear else module.groups,
        bias=module.bias is not None,
        padding_mode="zeros" if linear else module.padding_mode,
        order=order,
        transposed=False if linear else module.transposed,
        output_padding=0 if linear else module.output_padding,
    )
