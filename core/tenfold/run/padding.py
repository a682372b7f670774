"""Padding that is done before the first convolution: other modes than zeros, or uneven sides."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .convolve import TORCH_ORDER

Sides = tuple[tuple[int, int], ...]  # (before, after) for each axis


def pad(x: Tensor, sides: Sides, mode: str) -> Tensor:
    """Pad the last `len(sides)` axes of `x`, `(batch, channels, *size)`, by `nn.ConvNd`'s modes.

    Raises `ValueError` where a side is wider than the mode allows.
    """
    for axis, (before, after) in enumerate(sides):
        size, most = x.shape[axis + 2], {"reflect": -1, "circular": 0}.get(mode)
        if most is not None and max(before, after) > size + most:
            raise ValueError(
                f"padding={max(before, after)} with padding_mode={mode!r} needs an input of at "
                f"least {max(before, after) - most} on axis {axis}; its size there is {size}"
            )
    if mode == "zeros":
        return F.pad(x, [side for pair in reversed(sides) for side in pair])
    half = x.dtype == torch.float16 and x.device.type == "cpu"  # which torch 2.4 does not pad so
    if len(sides) <= TORCH_ORDER and not half:
        return F.pad(x, [side for pair in reversed(sides) for side in pair], mode=mode)
    for axis, (before, after) in enumerate(sides):
        if before or after:
            index = _source(x.shape[axis + 2], before, after, mode, x.device)
            x = x.index_select(axis + 2, index)
    return x


def _source(size: int, before: int, after: int, mode: str, device: torch.device) -> Tensor:
    """Which position of an axis each position of the padded one copies."""
    index = torch.arange(-before, size + after, device=device)
    if mode == "circular":
        return index % size
    if mode == "replicate":
        return index.clamp(0, size - 1)
    return (size - 1 - (size - 1 - index.abs()).abs()).abs()


def same(kernel_size: tuple[int, ...], dilation: tuple[int, ...]) -> Sides:
    """The sides that keep the size at stride 1; the odd one of an even kernel comes after."""
    totals = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)
