"""Read a trained convolution: its geometry, its kernel and its state."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..arguments import check_tensor
from ..run import is_channels_last
from .config import ConvConfig

PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WANTED = "nn.Conv1d to nn.Conv3d, nn.ConvTranspose1d to nn.ConvTranspose3d or nn.Linear"


def read_config(conv: Any) -> ConvConfig:
    """The arguments that made `conv`.

    Raises `TypeError` for what is no convolution or computes something of its own, and
    `ValueError` for one that has no weight yet.
    """
    kind = next((k for k in (*PLAIN, *TRANSPOSED, nn.Linear) if isinstance(conv, k)), None)
    if kind is None:
        raise TypeError(f"conv={type(conv).__name__} must be {WANTED}")
    for method in ("forward", "_conv_forward"):
        if getattr(type(conv), method, None) is not getattr(kind, method, None):
            raise TypeError(
                f"conv={type(conv).__name__} has a {method} of its own, which would be lost: "
                f"give an {kind.__name__} that computes the same"
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
    """Give `layer` the training mode, `requires_grad` and memory format of `conv`."""
    layer.train(conv.training)
    layer.weight.requires_grad_(conv.weight.requires_grad)
    if conv.bias is not None:
        layer.bias.requires_grad_(conv.bias.requires_grad)
    layer.channels_last = is_channels_last(conv.weight)
