"""What a layer takes, by layout, shape, device and dtype, and the output sizes it can give."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.fx import Proxy

from ..arguments import check_sizes
from .config import ConvConfig

SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)  # what a linear layer multiplies


def check_input(x: Tensor, config: ConvConfig, like: Tensor) -> None:
    """Raise `ValueError` or `TypeError` where a layer with factors as `like` cannot take `x`."""
    if isinstance(x, Proxy):
        raise TypeError(
            "torch.fx goes into a FactorizedConv, which chooses its way by the input: trace "
            "tenfold.to_plain(model), or make the class a leaf: leaf_modules=[FactorizedConv], "
            "or a Tracer whose is_leaf_module says so"
        )
    if not isinstance(x, Tensor):
        raise TypeError(f"input={type(x).__name__} must be a tensor: torch.as_tensor makes one")
    order, channels = config.order, config.in_channels
    if x.is_nested:
        raise TypeError("input is a nested tensor: give input.to_padded_tensor(0), or its parts")
    if x.layout != torch.strided and not (order == 0 and x.dim() < 3 and x.layout in SPARSE):
        raise TypeError(f"input of layout {x.layout} must be dense: use .to_dense()")
    axes = (order + 1, order + 2)
    good = x.dim() >= 1 if order == 0 else x.dim() in axes
    if good and torch._C._get_tracing_state() is not None:  # sizes are tensors: comparing warns
        return
    if not good or x.shape[-order - 1] != channels:
        wanted = ", ".join(map(str, (channels, *("size",) * order)))
        leading = "…," if order == 0 else "[batch,]"
        raise ValueError(f"input of shape {tuple(x.shape)} must have ({leading} {wanted})")
    if x.device != like.device:
        raise ValueError(f"input on {x.device} must be on the layer's, {like.device}: move one")
    if x.dtype != like.dtype and not _is_cast(x, like):
        raise TypeError(
            f"input of dtype {x.dtype} must have the layer's, {like.dtype}: {_conversion(x)}"
        )


def _is_cast(x: Tensor, like: Tensor) -> bool:
    """Whether autocast is on, and brings both to one dtype; it leaves float64 alone."""
    both = (x.dtype, like.dtype)
    castable = all(dtype.is_floating_point and dtype != torch.float64 for dtype in both)
    return castable and not x.is_meta and torch.is_autocast_enabled(x.device.type)


def _conversion(x: Tensor) -> str:
    if x.is_quantized:
        return "use .dequantize()"
    return "run it on .real and on .imag" if x.is_complex() else "convert one of them"


def padding_for(x: Tensor, config: ConvConfig, output_size: Sequence[int]) -> tuple[int, ...]:
    """The output padding with which a transposed convolution of `x` gives `output_size`.

    Raises `ValueError` for a size that it cannot give, and for a convolution not transposed.
    """
    if not config.transposed:
        raise ValueError(f"output_size={output_size!r} is for transposed convolutions")
    if isinstance(output_size, Sequence) and len(output_size) == config.order + 2:
        output_size = output_size[2:]
    wanted = check_sizes("output_size", output_size, config.order)
    least = config.geometry.padded((0,) * config.order).output_size(x.shape[2:])
    extra = tuple(w - s for w, s in zip(wanted, least, strict=True))
    if any(e < 0 or e >= s for e, s in zip(extra, config.stride, strict=True)):
        most = tuple(s + stride - 1 for s, stride in zip(least, config.stride, strict=True))
        raise ValueError(f"output_size={wanted} must be between {least} and {most}")
    return extra
