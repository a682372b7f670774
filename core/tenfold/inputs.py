"""What a layer takes: the shape and dtype of its input, and the output sizes it can give."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .arguments import check_sizes
from .config import ConvConfig


def check_input(x: Tensor, config: ConvConfig, dtype: torch.dtype) -> None:
    """Raise `ValueError` or `TypeError` where a layer of this `dtype` cannot take `x`."""
    if not isinstance(x, Tensor):
        raise TypeError(f"input={type(x).__name__} must be a tensor")
    order, channels = config.order, config.in_channels
    axes = (order + 1, order + 2)
    good = x.dim() >= 1 if order == 0 else x.dim() in axes
    if good and torch._C._get_tracing_state() is not None:  # sizes are tensors: comparing warns
        return
    if not good or x.shape[-order - 1] != channels:
        wanted = ", ".join(map(str, (channels, *("size",) * order)))
        leading = "…," if order == 0 else "[batch,]"
        raise ValueError(f"input of shape {tuple(x.shape)} must have ({leading} {wanted})")
    if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(
            f"input of dtype {x.dtype} must have the layer's, {dtype}: convert one of them"
        )


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
