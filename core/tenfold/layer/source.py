"""Read a trained convolution: its geometry, its kernel and its state."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ..arguments import check_tensor
from ..run import PLAIN, TRANSPOSED, is_channels_last
from .config import ConvConfig

WANTED = "nn.Conv1d to nn.Conv3d, nn.ConvTranspose1d to nn.ConvTranspose3d or nn.Linear"
MAKERS = (WeightNorm, SpectralNorm, BasePruningMethod)  # hooks that make a weight of others
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def read_config(conv: Any) -> ConvConfig:
    """The arguments that made `conv`.

    Raises `TypeError` for what is no convolution or computes something of its own, and
    `ValueError` for one that has no weight yet.
    """
    kind = next((k for k in (*PLAIN, *TRANSPOSED, nn.Linear) if isinstance(conv, k)), None)
    if kind is None:
        raise TypeError(f"conv={type(conv).__name__} must be {WANTED}")
    for method in ("forward", "_conv_forward", "__call__"):
        own = getattr(type(conv), method, None) is not getattr(kind, method, None)
        if own or method in vars(conv):
            raise TypeError(
                f"conv={type(conv).__name__} has a {method} of its own"
                f"{'' if own else ', set on the module itself'}, which would be lost: put an "
                f"nn.{kind.__name__} that computes the same in its place (of a weight that is "
                "standardised or scaled in forward, one with that weight; of an input that is "
                "padded there, an nn.Sequential of the padding, as nn.ZeroPad2d, and one)"
            )
    if is_lazy(conv.weight):
        raise ValueError(f"conv={type(conv).__name__} has no weight yet: run it on an input first")
    check_tensor("conv.weight", conv.weight)
    if kind is nn.Linear:
        return ConvConfig.parse(
            in_channels=conv.in_features,
            out_channels=conv.out_features,
            kernel_size=(),
            stride=1,
            padding=0,
            dilation=1,
            groups=1,
            bias=conv.bias is not None,
            padding_mode="zeros",
            order=0,
            transposed=False,
            output_padding=0,
        )
    return ConvConfig.parse(
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        kernel_size=conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
        order=len(conv.kernel_size),
        transposed=conv.transposed,
        output_padding=conv.output_padding,
    )


def settled(conv: Any) -> Any:
    """`conv`, or one like it with the weight and bias of its next call, where hooks make them.

    As `weight_norm`, `spectral_norm` and pruning do: what they made last may be older than what
    they make it of. Raises `ValueError` where hooks of another kind do.
    """
    names = ("weight", "bias")
    made = [n for n in names if n not in conv._parameters and not is_parametrized(conv, n)]
    if not made:
        return conv
    found = copy.copy(conv)  # its attributes are its own, and so are the buffers that hooks write
    found._buffers = {name: None if b is None else b.clone() for name, b in conv._buffers.items()}
    for name in made:
        hooks = [one for one in conv._forward_pre_hooks.values() if _makes(one, name)]
        if not hooks:
            raise ValueError(
                f"conv.{name} of a {type(conv).__name__} is no parameter, and what makes it is "
                f"not known: run it once, take its hook away, and make conv.{name} an nn.Parameter"
            )
        with torch.enable_grad():  # by which it is seen whether they are trained
            for hook in hooks:
                hook(found, ())
    return found


def _makes(hook: Any, name: str) -> bool:
    """Whether a hook is one of PyTorch's that make the tensor of this name."""
    known = isinstance(hook, MAKERS)
    return known and name == getattr(hook, "_tensor_name", getattr(hook, "name", None))


def read_kernel(conv: Any) -> Tensor:
    """The kernel of `conv`, detached, as `(out, in/groups, *k)`.

    Raises `ValueError` for one of another shape than the module's own fields say.
    """
    kernel: Tensor = conv.weight.detach()
    wanted = read_config(conv).shape
    if isinstance(conv, TRANSPOSED) and kernel.dim() > 1:
        kernel = swap_channels(kernel, conv.groups)
    if tuple(kernel.shape) != wanted:
        raise ValueError(
            f"conv.weight as a kernel has shape {tuple(kernel.shape)}, and its own fields say "
            f"{wanted}: make the layer anew around that weight"
        )
    return kernel


def swap_channels(weight: Tensor, groups: int) -> Tensor:
    """Turn `(groups * a, b, *k)` into `(groups * b, a, *k)`, PyTorch's transposed layout."""
    apart = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return apart.transpose(1, 2).flatten(0, 1)


def copy_state(conv: Any, layer: Any) -> None:
    """Give `layer` the training mode, `requires_grad`, memory format and hooks of `conv`.

    Not the hooks that make its weight.
    """
    conv = settled(conv)
    layer.train(conv.training)
    layer.weight.requires_grad_(conv.weight.requires_grad)
    if conv.bias is not None:
        layer.bias.requires_grad_(conv.bias.requires_grad)
    layer.channels_last = is_channels_last(conv.weight)
    makers = {key for key, one in conv._forward_pre_hooks.items() if isinstance(one, MAKERS)}
    for name in HOOKS:
        kept = [(key, one) for key, one in getattr(conv, name).items() if key not in makers]
        setattr(layer, name, OrderedDict(kept))
    layer._is_full_backward_hook = conv._is_full_backward_hook
