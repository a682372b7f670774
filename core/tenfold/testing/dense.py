"""The oracle: a dense convolution of any order, from its definition, one tap at a time.

It shares no code with what it judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

_NUMPY_MODE = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def dense_convolution(
    x: Tensor,  # (batch, in, *size)
    kernel: Tensor,  # (out, in/groups, *k)
    bias: Tensor | None = None,
    *,
    stride: Sequence[int] = (),
    padding: Sequence[int] | str = (),
    dilation: Sequence[int] = (),
    groups: int = 1,
    padding_mode: str = "zeros",
    transposed: bool = False,
    output_padding: Sequence[int] = (),
) -> Tensor:
    """Convolve `x` as `nn.ConvNd` or `nn.ConvTransposeNd` does, of any order.

    `x` is `(batch, in, *size)`, `kernel` `(out, in/groups, *k)`, `bias` `(out,)`. `stride`,
    `padding`, `dilation` and `output_padding` have one number for each axis, or none for their
    default; `padding` may be `"same"` or `"valid"`; `groups`, `padding_mode` and `transposed` are
    PyTorch's. Returns `(batch, out, *size)`, differentiable. From the definition, as Dumoulin and
    Visin 2016, arXiv 1603.07285, draw it.

    Raises `ValueError` or `RuntimeError` where the sizes do not fit: it checks nothing itself.

    >>> x, conv = torch.randn(2, 4, 9), nn.Conv1d(4, 8, 3, stride=2)
    >>> relative_error(conv(x), dense_convolution(x, conv.weight, conv.bias, stride=(2,))) < 1e-5
    True
    """
    order = kernel.dim() - 2
    sizes = kernel.shape[2:]
    stride, dilation = stride or (1,) * order, dilation or (1,) * order
    output_padding = output_padding or (0,) * order
    totals = [d * (k - 1) for k, d in zip(sizes, dilation, strict=True)]
    if padding == "same":
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        each = (0,) * order if isinstance(padding, str) or not padding else padding
        sides = [(p, p) for p in each]
    if not transposed:
        for axis, (before, after) in enumerate(sides):
            x = _padded(x, axis + 2, before, after, padding_mode)
    apart = x.unflatten(1, (groups, -1))
    weights = kernel.unflatten(0, (groups, -1))  # (groups, out, in, *k)
    if transposed:
        size = [(s - 1) * st + t + 1 for s, st, t in zip(x.shape[2:], stride, totals, strict=True)]
        size = [max(s, s + extra) for s, extra in zip(size, output_padding, strict=True)]
    else:
        size = [(s - t - 1) // st + 1 for s, st, t in zip(x.shape[2:], stride, totals, strict=True)]
    y = x.new_zeros((x.shape[0], groups, weights.shape[1], *size))
    for tap in product(*map(range, sizes)):
        matrix = weights[(..., *tap)]
        places = [index * d for index, d in zip(tap, dilation, strict=True)]
        if transposed:
            there: Any = tuple(
                slice(p, p + (s - 1) * st + 1, st)
                for p, s, st in zip(places, x.shape[2:], stride, strict=True)
            )
            part = torch.zeros_like(y)
            part[(..., *there)] = torch.einsum("goi,ngi...->ngo...", matrix, apart)
            y = y + part
        else:
            seen: Any = tuple(
                slice(p, p + (s - 1) * st + 1, st)
                for p, s, st in zip(places, size, stride, strict=True)
            )
            y = y + torch.einsum("goi,ngi...->ngo...", matrix, apart[(..., *seen)])
    if transposed:
        cut: Any = tuple(
            slice(before, full - after) for (before, after), full in zip(sides, size, strict=True)
        )
        y = y[(..., *cut)]
    y = y.flatten(1, 2)
    return y if bias is None else y + bias.reshape(-1, *(1,) * order)


def _padded(x: Tensor, dim: int, before: int, after: int, mode: str) -> Tensor:
    size = x.shape[dim]
    if mode == "zeros":
        edges = [list(x.shape), list(x.shape)]
        edges[0][dim], edges[1][dim] = before, after
        return torch.cat([x.new_zeros(edges[0]), x, x.new_zeros(edges[1])], dim)
    index = np.pad(np.arange(size), (before, after), mode=_NUMPY_MODE[mode])  # type: ignore[call-overload]
    return x.index_select(dim, torch.from_numpy(index).to(x.device))
