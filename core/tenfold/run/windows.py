"""A convolution of few short lines as one product of its windows.

PyTorch's own copies the weight for oneDNN on every call, and in a network oneDNN starts some ten
microseconds later than BLAS: as long as such convolutions take. A single line goes another way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from ..network import Geometry

FEW, FEW_LAID_OUT = 2**15, 2**13  # numbers that are moved, up to which that is sooner done


def is_of_lines(weight: Tensor, geometry: Geometry) -> bool:
    """Whether a weight, `(out, in, *k)`, is of lines, on the CPU, and of real single precision."""
    return (
        geometry.order == 1
        and not geometry.transposed
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and prod(weight.shape) > 0
    )


def is_few(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether `x` is some lines, and little is moved: the windows of all positions, and what comes
    out; yet less where that is to lay out `x` itself and no more."""
    if x.dim() != 3 or x.shape[0] == 1:
        return False
    only_laid_out = geometry.is_pointwise and x.stride(1) != 1
    positions = x.shape[0] * geometry.output_size(x.shape[2:])[0]
    moved = positions * (prod(weight.shape[1:]) + len(weight))
    return 0 < moved <= (FEW_LAID_OUT if only_laid_out else FEW)


def as_matrix(weight: Tensor) -> Tensor:
    """Of a weight `(out, in, k)`, `(k · in, out)`, as a window has them."""
    return weight.permute(2, 1, 0).flatten(0, 1).contiguous()


def by_windows(
    x: Tensor, matrix: Tensor, bias: Tensor | None, geometry: Geometry
) -> Callable[[Tensor], Tensor]:
    """How to convolve inputs of the size of `x`, `(batch, in, length)`, by such a matrix.

    What comes out has its channels together.
    """
    (taps,), (stride,) = geometry.kernel_size, geometry.stride
    (padding,), (dilation,) = geometry.padding, geometry.dilation
    batch, channels, length = x.shape
    (made,) = geometry.output_size((length,))
    view = (batch, made, taps, channels)
    line = (length + 2 * padding) * channels
    strides = (line, stride * channels, dilation * channels, 1)
    multiply = torch.mm if bias is None else partial(torch.addmm, bias)

    def way(x: Tensor) -> Tensor:
        last = F.pad(x.mT, (0, 0, padding, padding)) if padding else x.mT
        seen = last.contiguous().as_strided(view, strides)
        return multiply(seen.reshape(batch * made, -1), matrix).reshape(batch, made, -1).mT

    return way
