"""A convolution whose weight does not change: prepacked, and run by the fastest kernel at hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..network import Geometry
from .convolve import SWAPPED, channels_last, convolver, is_channels_last, is_column
from .windows import as_matrix, by_windows, is_few, is_of_lines

Way = Callable[[Tensor], Tensor]

# oneDNN starts 10 µs later than PyTorch's own kernels and BLAS do, and computes faster. So below
# this many multiply-accumulates a 1×1 convolution is one matrix product of BLAS,
SMALL = 6_000_000
# below this many a linear layer is PyTorch's own, and below this many any other convolution of a
# single image, or one with the channels apart. In a network, where the caches hold other layers'
# data, oneDNN starts 70 µs later yet, which running one layer again and again does not show.
TINY, SINGLE = 1_000_000, 5_000_000


class FixedConvolution:
    """A convolution by a fixed weight and bias, without gradients.

    On the CPU in float32, rows, images and volumes with the channels together go to oneDNN itself,
    the weight reordered for it once; so do images with the channels apart where that pays.
    `torch.conv2d` reorders it on every call, which for wide layers on small maps takes as long as
    the convolution; and it sends 1×1 convolutions on one thread, and any of at most 3×3 on one
    small image, to slower kernels (`use_mkldnn` in PyTorch's Convolution.cpp). A 1×1 one with the
    channels together is one matrix product, by oneDNN too. All else is PyTorch's own, the weight in
    the input's memory format. The input may be repeated, `copies` times, along the channels.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        groups: int,
        packed: bool = True,
        copies: int = 1,
    ) -> None:
        self.copies = copies
        self.weight = weight.contiguous()
        self.bias = bias
        self.geometry = geometry
        self.groups = groups
        self._packs = packed and can_pack(weight, geometry)
        self._is_of_lines = packed and groups == 1 and is_of_lines(weight, geometry)
        self._linear = groups == 1 and geometry.is_pointwise
        self._row: FixedConvolution | None = None  # for columns
        self._kept: dict[str, Tensor] = {}  # the weight in other orders, each made once

    def __call__(self, x: Tensor) -> Tensor:
        return self.way(x)(x)

    def way(self, x: Tensor) -> Way:
        """How to convolve `x` and all inputs of its shape, strides, dtype and device.

        It also depends on whether oneDNN and autocast are on now.
        """
        copies = self.copies
        if copies == 1:
            return self._way(x)
        way = self._way(torch.cat([x] * copies, 1))
        return lambda x: way(torch.cat([x] * copies, 1))

    def _way(self, x: Tensor) -> Way:
        if is_column(x, self.geometry):
            if self._row is None:
                swapped = self.geometry.of(SWAPPED)
                weight = self.weight.mT
                self._row = FixedConvolution(weight, self.bias, swapped, self.groups, self._packs)
            way = self._row.way(x.mT)
            return lambda x: way(x.mT).mT
        if self._is_of_lines and is_few(x, self.weight, self.geometry):
            matrix = self._keep("windows", lambda: as_matrix(self.weight))
            return by_windows(x, matrix, self.bias, self.geometry)
        together = is_channels_last(x)
        if self._packs and onednn_takes(x):
            macs = x.numel() * self.weight.numel() // self.weight.shape[1]  # at stride 1
            rows = x.dim() == 2 and macs >= TINY
            if self._linear and (rows or together) and x.movedim(1, -1).is_contiguous():
                one = x.dim() == 2 and x.shape[0] == 1 and 2 * self.weight.shape[0] >= x.shape[1]
                return self._product(x, 0 if one else macs if x.dim() > 2 else SMALL)
            several = self.groups > 1 or x.shape[0] > 1
            if together and (macs >= SINGLE or several):
                return self._packed(x)
            if x.dim() == 4 and not together and macs >= SINGLE and self._is_wide(x):
                packed = self._packed(x)
                return lambda x: packed(x).contiguous()
        weight = self.weight
        if self.geometry.order == 0 and x.dim() == 3 and self.groups == 1:
            return partial(torch.bmm, weight.expand(x.shape[0], -1, -1))
        if together and weight.dim() > 3:
            weight = self._keep("together", lambda: channels_last(self.weight))
        run, bias = convolver(x, self.geometry, self.groups), self.bias
        return lambda x: run(x, weight, bias)

    def _is_wide(self, x: Tensor) -> bool:
        """Whether to reorder the weight on each call costs more than to change the layout of `x`,
        of its channels apart, and back."""
        return (
            self.groups == 1
            and not self.geometry.is_pointwise
            and self.weight.numel() >= 2 * x.numel()
        )

    def _packed(self, x: Tensor) -> Way:
        """The convolution of oneDNN, its weight reordered; its output has the channels together."""
        g, bias, groups = self.geometry, self.bias, self.groups
        where = (g.padding, g.stride, g.dilation, groups)
        reorder: Any = torch.ops.mkldnn._reorder_convolution_weight
        run: Any = torch.ops.mkldnn._convolution_pointwise.default
        packed = self._keep("packed", lambda: reorder(self.weight, *where, x.shape))
        return lambda x: run(x, packed, bias, *where, "none", [], "")

    def _product(self, x: Tensor, macs: int) -> Way:
        """A 1×1 convolution of dense rows, or of images with the channels together: rows times a
        matrix. A single row meets one that lies column by column, as PyTorch does it soonest."""
        bias, channels, out = self.bias, x.shape[1], self.weight.shape[0]
        given, steps = (x.numel() // channels, channels), (channels, 1)
        size = (x.shape[0], out, *x.shape[2:])
        strides = channels_last(torch.empty(size, device="meta")).stride()
        flat = self.weight.flatten(1)
        multiply: Any
        rest: tuple[Any, ...] = ()
        if macs >= SMALL:
            reorder: Any = torch.ops.mkldnn._reorder_linear_weight
            multiply, rest = torch.ops.mkldnn._linear_pointwise.default, (bias, "none", [], "")
            matrix = self._keep("rows", lambda: reorder(flat, given[0]))
        else:
            multiply = torch.mm if bias is None else partial(torch.addmm, bias)
            matrix = self._keep("matrix", lambda: flat.T.contiguous())
        return lambda x: multiply(x.as_strided(given, steps), matrix, *rest).as_strided(
            size, strides
        )

    def _keep(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]


def can_pack(weight: Tensor, geometry: Geometry) -> bool:
    """Whether oneDNN can run a convolution by `weight`: its order, its dtype and where it is."""
    return (
        torch.backends.mkldnn.is_available()
        and geometry.order in (0, 2, 3)
        and not geometry.transposed
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and prod(weight.shape) > 0
    )


def repeating_pays(weight: Tensor) -> bool:
    """Whether a depthwise convolution is so much faster than one with a multiplier that it pays to
    repeat the input: in float32 on the CPU, where oneDNN has a kernel for it, several times."""
    return (
        torch.backends.mkldnn.is_available()
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
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
