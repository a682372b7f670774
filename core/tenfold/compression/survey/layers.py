"""Which convolutions and linear layers a network has, found by running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...layer import PLAIN, TRANSPOSED, ConvConfig, FactorizedConv, read_config
from ...plugin import PluginError, ask_hooks, factorizations, implementations
from ..running import Batch, call, evaluating

KINDS = (*PLAIN, *TRANSPOSED, nn.Linear)
REQUESTS = ("factorization", "rank", "implementation")  # of a hook
FAULTS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)
READERS = (nn.MultiheadAttention,)  # they read their layers' weights


@dataclass
class Layer:
    """One convolution or linear layer of a network, and how it is called.

    `names` are all the places where it stands; `shapes` those of its input at each call, in one run
    of the network. `reason` says why it is left dense, if it is. `follower` is the batch
    normalisation that takes its output. `counted` are the multiply-accumulates of one that is
    factorized already.
    """

    names: list[str]
    kind: str
    config: ConvConfig
    parameters: int
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    reason: str | None = None
    request: dict[str, Any] = field(default_factory=dict)
    follower: str | None = None
    factorized: bool = False
    counted: int | None = None

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    @property
    def calls(self) -> int:
        return len(self.shapes)

    def positions(self, shape: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """How many inputs of what spatial size one call's input is."""
        order = self.config.order
        size = tuple(shape[len(shape) - order :])
        if order == 0:
            return int(torch.Size(shape[:-1]).numel()), ()
        return (shape[0] if len(shape) == order + 2 else 1), size

    def maps(self) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
        """Of each call how many inputs there are, and the spatial sizes of one and its output."""
        found = []
        for shape in self.shapes:
            batch, size = self.positions(shape)
            if self.config.sides is not None:
                size = tuple(s + sum(p) for s, p in zip(size, self.config.sides, strict=True))
            found.append((batch, size, self.config.geometry.output_size(size)))
        return found

    def places(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Of one call's input the number of inputs, and the spatial sizes of the output."""
        ((batch, _, output),) = replace(self, shapes=[tuple(shape)]).maps()
        return (batch, *output)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all its calls."""
        if self.counted is not None:
            return self.counted
        kernel = prod(self.config.shape)
        return sum(
            batch * kernel * prod(size if self.config.transposed else output)
            for batch, size, output in self.maps()
        )

    @property
    def traffic(self) -> int:
        """Elements that all its calls read and write."""
        inner, outer = self.config.in_channels, self.config.out_channels
        return sum(
            batch * (inner * prod(size) + outer * prod(output))
            for batch, size, output in self.maps()
        )


def survey(model: nn.Module, example_inputs: Batch) -> list[Layer]:
    """Run `model` once and list its layers in the order of their first call.

    A module that stands in several places is one layer; each of its calls counts. The model is left
    as it was. A layer that cannot be replaced has a `reason`.

    Raises `ValueError` for a network without any that is called, and where
    `example_inputs` has no sample.
    """
    layers: dict[nn.Module, Layer] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if module in layers:
            layers[module].names.append(name)
        elif isinstance(module, FactorizedConv):
            layers[module] = _factorized(name, module)
        elif isinstance(module, KINDS):
            layers[module] = _describe(model, name, module)
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
        raise ValueError("the model calls no convolution or linear layer on example_inputs")
    if not any(layer.macs for layer in called):
        raise ValueError("example_inputs is empty: give at least one sample")
    return called


def _factorized(name: str, module: FactorizedConv) -> Layer:
    reason = (
        f"it is factorized already ({module.factorization}, rank {module.rank}), and stays so: "
        "to have it compressed anew, put what its to_conv() gives in its place"
    )
    parameters = sum(p.numel() for p in module.parameters())
    kind = type(module).__name__
    return Layer([name], kind, module.config, parameters, reason=reason, factorized=True)


def _describe(model: nn.Module, name: str, module: Any) -> Layer:
    parameters = sum(p.numel() for p in module.parameters())
    kind = next(kind for kind in KINDS if isinstance(module, kind))
    parent = model.get_submodule(name.rpartition(".")[0]) if name else model
    reason = None
    if not name:
        reason = "it is the whole model: put it in an nn.Sequential"
    elif not {"weight", "bias"} <= module._parameters.keys():
        reason = "its weight is computed from others (a parametrization, a weight norm, pruning)"
    elif isinstance(parent, READERS):
        reason = f"its {type(parent).__name__} reads its weight without calling it"
    elif sum(module.weight is p for m in model.modules() for p in m._parameters.values()) > 1:
        reason = "its weight is shared with another module"
    try:
        config = read_config(module)
    except (TypeError, ValueError) as fault:
        reason = reason or str(fault)
        config = _bare(module)
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


def select(
    model: nn.Module, layers: Sequence[Layer], include: Sequence[Any], exclude: Sequence[Any]
) -> None:
    """Give a reason to each layer that is not to be compressed, and the hook's request to others.

    Raises `ValueError` for a pattern that matches no layer.
    """
    matched = {
        (kind, index): [layer for layer in layers if _matches(model, layer, pattern)]
        for kind, patterns in (("include", include), ("exclude", exclude))
        for index, pattern in enumerate(patterns)
    }
    for (kind, index), found in matched.items():
        if not found:
            pattern = (include if kind == "include" else exclude)[index]
            known = ", ".join(layer.name for layer in layers[:8])
            raise ValueError(
                f"{kind}={pattern!r} matches no layer that the model calls: they are {known}"
                + (", …" if len(layers) > 8 else "")
            )
    wanted = [layer for key, found in matched.items() if key[0] == "include" for layer in found]
    unwanted = [layer for key, found in matched.items() if key[0] == "exclude" for layer in found]
    for layer in layers:
        if layer.reason is None and include and layer not in wanted:
            layer.reason = "not included"
        elif layer.reason is None and layer in unwanted:
            layer.reason = "excluded"
        elif layer.reason is None:
            module = model.get_submodule(layer.name)
            answer, author = ask_hooks("tenfold_select", name=layer.name, module=module)
            if answer is False:
                layer.reason = "left out by a hook"
            elif answer is not None and answer is not True:
                layer.request = _understood(layer.name, answer, author)


def chosen(layers: Sequence[Layer]) -> list[Layer]:
    """Those that may be replaced; `ValueError`, saying why, where there is none."""
    found = [layer for layer in layers if layer.reason is None]
    if not found:
        reasons = "; ".join(f"{layer.name}: {layer.reason}" for layer in layers[:8])
        raise ValueError(f"there is no layer to compress ({reasons})")
    return found


def staying(layers: Sequence[Layer], outside: int) -> str:
    """What of a network costs most and stays as it is, with the reasons; nothing where all may
    change."""
    kept = [layer for layer in layers if layer.reason is not None and layer.macs]
    kept.sort(key=lambda layer: -layer.macs)
    total = sum(layer.macs for layer in layers) + outside
    words = [f"{one.macs / total:.0%} in {one.name!r}: {one.reason}" for one in kept[:3]]
    if outside:
        words.append(f"{outside / total:.0%} outside of layers, in calls of functions")
    return "; ".join(words)


def _understood(name: str, answer: Any, author: str) -> dict[str, Any]:
    """The request of a hook, refused where it asks for what a compression decides itself."""
    if not isinstance(answer, dict):
        raise TypeError(
            f"{author} answered {answer!r} for layer {name!r}: it must be False, None or a dict"
        )
    for key in answer:
        if key not in REQUESTS:
            raise ValueError(
                f"{author} asks {key}={answer[key]!r} of layer {name!r}: a "
                f"compression takes {', '.join(REQUESTS)}"
            )
    for key, registry in (("factorization", factorizations), ("implementation", implementations)):
        try:
            if key in answer:
                registry.choose(answer[key])
        except (ValueError, TypeError, PluginError) as fault:
            raise ValueError(f"{author} asks it of layer {name!r}: {fault}") from fault
    return answer


def _matches(model: nn.Module, layer: Layer, pattern: Any) -> bool:
    module = model.get_submodule(layer.name)
    if isinstance(pattern, str):
        return any(fnmatchcase(name, pattern) for name in layer.names)
    if isinstance(pattern, type):
        return isinstance(module, pattern)
    return bool(pattern(layer.name, module))
