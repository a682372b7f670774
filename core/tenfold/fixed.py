"""A convolution whose weight does not change: prepacked, and run by the fastest kernel at hand."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from .convolve import channels_last, convolve, is_channels_last
from .geometry import Geometry

# oneDNN starts 10 to 20 µs later than PyTorch's own kernels and BLAS do, and computes faster.
# So below this many multiply-accumulates a 1×1 convolution is one matrix product,
SMALL = 8_000_000
# and below this many one of a single image goes where PyTorch sends it.
TINY = 1_000_000


class FixedConvolution:
    """A convolution by a fixed weight, without gradients.

    On the CPU in float32, images (and volumes with the channels together) go to oneDNN itself, the
    weight reordered for it once. `torch.conv2d` reorders it on every call, which for wide layers on
    small maps takes longer than the convolution; and it sends 1×1 convolutions on one thread, and
    any of at most 3×3 on one small image, to slower kernels (`use_mkldnn` in PyTorch's
    Convolution.cpp). Small 1×1 ones are one matrix product. All else is PyTorch's own convolution,
    the weight in the input's memory format.
    """

    def __init__(
        self, weight: Tensor, geometry: Geometry, groups: int, packed: bool = True
    ) -> None:
        self.weight = weight.contiguous()
        self.geometry = geometry
        self.groups = groups
        self._together: Tensor | None = None  # the weight, its channels kept together
        self._packed: Tensor | None = None  # the weight in oneDNN's own order
        self._packs = packed and can_pack(weight, geometry)
        self._matrix: Tensor | None = None  # (in, out)
        self._tiny = 0  # how many elements of an image are enough for oneDNN
        if self._packs and groups == 1:
            each = weight.numel() // weight.shape[1]  # multiply-accumulates for an element
            self._tiny = TINY // each
            if geometry.order == 2 and geometry.is_pointwise:
                self._matrix = weight.flatten(1).T.contiguous()
                self._tiny = SMALL // each

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        together = is_channels_last(x)
        if self._packs and (together or x.dim() == 4) and onednn_takes(x):
            if x.numel() >= self._tiny or (self._matrix is None and x.shape[0] > 1):
                return self._run_packed(x, bias)
            if self._matrix is not None and is_a_matrix(x):
                return multiply(x, self._matrix, bias)
        weight = self.weight
        if together and weight.dim() > 3:
            if self._together is None:
                self._together = channels_last(weight)
            weight = self._together
        return convolve(x, weight, bias, self.geometry, self.groups)

    def _run_packed(self, x: Tensor, bias: Tensor | None) -> Tensor:
        g = self.geometry
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, g.padding, g.stride, g.dilation, self.groups, x.shape
            )
        y: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            x, self._packed, bias, g.padding, g.stride, g.dilation, self.groups, "none", [], ""
        )
        return y if is_channels_last(x) else y.contiguous()  # it may choose the other layout


def is_a_matrix(x: Tensor) -> bool:
    """Whether images are one dense matrix, and one product of it is faster than a convolution.

    On one thread, below 16 images, PyTorch's convolution is that product, with less ado.
    """
    dense = x.is_contiguous(memory_format=torch.channels_last)
    return dense and (torch.get_num_threads() > 1 or x.shape[0] >= 16)


def multiply(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """A 1×1 convolution of images, dense, channels together, by `matrix`, `(in, out)`."""
    batch, channels, height, width = x.shape
    rows = x.as_strided((batch * height * width, channels), (channels, 1))
    y = torch.mm(rows, matrix) if bias is None else torch.addmm(bias, rows, matrix)
    out = matrix.shape[1]
    return y.as_strided((batch, out, height, width), (height * width * out, 1, width * out, out))


def can_pack(weight: Tensor, geometry: Geometry) -> bool:
    """Whether oneDNN can run a convolution by `weight`: its order, its dtype and where it is."""
    return (
        torch.backends.mkldnn.is_available()
        and geometry.order in (2, 3)
        and not geometry.transposed
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and prod(weight.shape) > 0
    )


def onednn_takes(x: Tensor) -> bool:
    """Whether `x` may go to oneDNN now: PyTorch's own conditions, and no autocast."""
    return (
        x.dtype == torch.float32
        and x.is_cpu
        and x.numel() > 0
        and torch._C._get_mkldnn_enabled()
        and not torch.is_autocast_enabled("cpu")
    )
