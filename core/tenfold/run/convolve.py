"""One convolution of any order, by PyTorch's own of at most three spatial axes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from ..network import Geometry

Convolver = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # input, weight and bias

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
LINE = [Geometry((1,), (1,), (0,), (1,), (0,), transposed) for transposed in (False, True)]
TORCH_ORDER = 3  # the most spatial axes that PyTorch convolves over
FEW = 512  # positions, of all images, up to which a 1×1 convolution is a matrix product
MOST = 2**19  # numbers of a gradient that are soon added
SWAPPED = (1, 0)  # the axes of a column that is convolved as a row
LAID_OUT = (2, 3)  # the orders whose activations have more than one memory format


def convolve(
    x: Tensor,  # (batch, groups * in, *size)
    weight: Tensor,  # (groups * out, in, *k), or (groups * in, out, *k) where transposed
    bias: Tensor | None,
    geometry: Geometry,
    groups: int,
) -> Tensor:
    """Convolve `x`, of any order, order 0 (a linear map) included."""
    line = LINE[geometry.transposed]
    if geometry.order == 0:
        return multiply(x, weight, bias, groups)
    if is_a_product(x, geometry, groups):
        return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
    if geometry.order <= TORCH_ORDER:
        return _convolve(x, weight, bias, geometry, groups)
    if geometry.is_pointwise:
        y = _convolve(x.flatten(2), weight.flatten(2), bias, line, groups)
        return y.reshape(*y.shape[:2], *x.shape[2:])
    return _convolve_wide(x, weight, bias, geometry, groups)


def convolver(x: Tensor, geometry: Geometry, groups: int) -> Convolver:
    """`convolve` for inputs of the kind of `x`, with what it asks of them asked once."""
    if geometry.order == 0 and groups == 1 and x.dim() == 2:
        return F.linear
    plain = 1 <= geometry.order <= TORCH_ORDER and not is_a_product(x, geometry, groups)
    if not plain or geometry.transposed or is_column(x, geometry):
        return lambda x, weight, bias: convolve(x, weight, bias, geometry, groups)
    g, run = geometry, _CONV[geometry.order]
    stride, padding, dilation = g.stride, g.padding, g.dilation
    return lambda x, weight, bias: run(x, weight, bias, stride, padding, dilation, groups)


def is_a_product(x: Tensor, geometry: Geometry, groups: int) -> bool:
    """Whether a convolution is best run as one matrix product: 1×1, with few positions, the
    channels together, on the CPU, in eager mode.

    BLAS takes the weight as it lies, where a convolution copies it, and its gradient too: most of
    the time of wide layers on small maps. With many positions oneDNN's convolution is faster.
    """
    return (
        groups == 1
        and geometry.order in LAID_OUT
        and geometry.is_pointwise
        and not geometry.transposed
        and x.is_cpu
        and is_channels_last(x)
        and not is_traced()
        and x.numel() <= FEW * x.shape[1]
    )


def is_column(x: Tensor, geometry: Geometry) -> bool:
    """Whether an image is one column, on the CPU in eager mode, and so best convolved as one row.

    oneDNN takes up to twice as long for a column of 64 taps, and a step of training by 512 taps
    five times as long. What is turned is a view.
    """
    return (
        not is_traced()
        and x.is_cpu
        and geometry.order == 2
        and geometry.kernel_size[0] > 1
        and x.shape[3] == 1
        and geometry.on([1]).is_pointwise
    )


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """A weight, `(groups * out, in)`, times rows, `(many, groups * in)`, or times each of many
    matrices, `(many, groups * in, columns)`, then without a bias.

    The gradient of a product is a matrix for each of the many, which are then added; where those
    are large a convolution adds them while it multiplies, or one product has all columns.
    """
    if groups == 1 and x.dim() == 2:
        return F.linear(x, weight, bias)
    out, inner = weight.shape[0] // groups, weight.shape[1]
    many, columns = x.shape[0], x.shape[2] if x.dim() == 3 else 1
    plain = is_traced() or not x.is_cpu or x.is_complex()
    is_thin = out * inner <= columns * (out + inner)
    if groups > 1 and plain:
        line = x if x.dim() == 3 else x.unsqueeze(2)
        return _convolve(line, weight.unsqueeze(2), bias, LINE[0], groups).reshape(
            many, groups * out, *x.shape[2:]
        )
    if groups > 1:
        given, parts = x.reshape(many, groups, inner, columns), weight.reshape(groups, out, inner)
        y = parts @ given if is_thin else torch.einsum("ngic,goi->ngoc", given, parts)
        y = y.reshape(many, groups * out, *x.shape[2:])
        return y if bias is None else y + bias
    if plain:
        return F.linear(x.mT, weight).mT
    if many * weight.numel() <= MOST or is_thin:
        return torch.bmm(weight.expand(many, -1, -1), x)
    return F.conv1d(x, weight.unsqueeze(2))


def is_traced() -> bool:
    """Whether what runs now is recorded, for inputs of other sizes too."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, groups: int
) -> Tensor:
    g = geometry
    if is_column(x, g):
        return _convolve(x.mT, weight.mT, bias, g.of(SWAPPED), groups).mT
    if g.transposed:
        transposed = _CONV_TRANSPOSE[g.order]
        return transposed(
            x, weight, bias, g.stride, g.padding, g.output_padding, groups, g.dilation
        )
    return _CONV[g.order](x, weight, bias, g.stride, g.padding, g.dilation, groups)


def _convolve_wide(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, groups: int
) -> Tensor:
    """Convolve over more axes than PyTorch does.

    The last three axes that the kernel acts on are PyTorch's; the axes that it leaves alone go to
    the batch; over the other, leading ones the taps are summed, each tap a view of the input.
    """
    axes = range(geometry.order)
    acting = [axis for axis in axes if not _is_idle(geometry, axis)]
    inner, leading = acting[-TORCH_ORDER:], acting[:-TORCH_ORDER]
    idle = [axis for axis in axes if axis not in acting]

    if torch._C._get_tracing_state() is None and any(
        s < 1 for s in geometry.output_size(x.shape[2:])
    ):
        raise RuntimeError("the kernel is larger than the input")  # as PyTorch's own refuse
    for axis in leading:
        x = prepare(x, axis + 2, geometry, axis)
    outer = [*leading, *idle]
    x = x.permute(0, *(axis + 2 for axis in outer), 1, *(axis + 2 for axis in inner))
    weight = weight.permute(*(axis + 2 for axis in outer), 0, 1, *(axis + 2 for axis in inner))
    inside = geometry.of(inner)
    total = None
    for taken in product(*(range(geometry.kernel_size[axis]) for axis in leading)):
        seen = x
        for place, (axis, index) in enumerate(zip(leading, taken, strict=True)):
            seen = tap(seen, place + 1, geometry, axis, index)
        kernel = weight[(*taken, *(0 for _ in idle))]
        folded = seen.reshape(prod(seen.shape[: 1 + len(outer)]), *seen.shape[1 + len(outer) :])
        y = _convolve(folded, kernel, bias if total is None else None, inside, groups)
        y = y.reshape(*seen.shape[: 1 + len(outer)], *y.shape[1:])
        total = y if total is None else total + y
    assert total is not None  # a kernel has at least one tap
    places = {axis: place + 1 for place, axis in enumerate(outer)}
    places |= {axis: place + 2 + len(outer) for place, axis in enumerate(inner)}
    return total.permute(0, 1 + len(outer), *(places[axis] for axis in axes))


def _is_idle(geometry: Geometry, axis: int) -> bool:
    return geometry.on([axis]).is_pointwise


def prepare(x: Tensor, dim: int, geometry: Geometry, axis: int) -> Tensor:
    """Pad one axis, so that each tap is a slice of it.

    A transposed convolution is the plain one, with the kernel turned round, of the input with
    `stride - 1` zeros after each element (Dumoulin and Visin 2016, arXiv 1603.07285).
    """
    padding, stride = geometry.padding[axis], geometry.stride[axis]
    if not geometry.transposed:
        return _pad_zeros(x, dim, padding, padding)
    if stride > 1:
        x = _pad_zeros(x.unsqueeze(dim + 1), dim + 1, 0, stride - 1).flatten(dim, dim + 1)
        x = x.narrow(dim, 0, x.shape[dim] - stride + 1)
    edge = geometry.reach[axis] - 1 - padding
    return _pad_zeros(x, dim, edge, edge + geometry.output_padding[axis])


def tap(x: Tensor, dim: int, geometry: Geometry, axis: int, index: int) -> Tensor:
    """The positions of one prepared axis that meet the kernel's tap `index`."""
    stride = 1 if geometry.transposed else geometry.stride[axis]
    if geometry.transposed:
        index = geometry.kernel_size[axis] - 1 - index
    start = index * geometry.dilation[axis]
    length = (x.shape[dim] - geometry.reach[axis]) // stride
    slices = (slice(None),) * dim + (slice(start, start + length * stride + 1, stride),)
    return x[slices]


def _pad_zeros(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    if before == after == 0:
        return x
    return F.pad(x, (0, 0) * (x.dim() - dim - 1) + (before, after))


def is_channels_last(x: Tensor) -> bool:
    """Whether an image or a volume, `(batch, channels, *size)`, keeps its channels together.

    Told by the strides, which `torch.vmap` knows too.
    """
    return x.dim() in (4, 5) and x.stride(1) == 1 and x.stride(-1) != 1


def channels_last(x: Tensor) -> Tensor:
    """The same numbers with the channels kept together; `x` itself where they are."""
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def in_format(x: Tensor, together: bool) -> Tensor:
    """The same numbers with the channels kept together, or else contiguous."""
    return channels_last(x) if together else x.contiguous()
