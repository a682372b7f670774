"""One norm for layers alike: what they see and what their outputs are worth, each as it counts."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ...algebra import by_group
from ..moments import WIDE, Importance, Norm, Seen
from ..survey import Layer


def pooled(
    layers: Sequence[Layer],
    kernels: Tensor,  # (out, in/groups, layers, *k)
    seen: Sequence[Seen],
    importance: Importance,
    memory: int,
) -> tuple[Norm, list[float], Norm | None]:
    """The norm of all their kernels in one, and by what each is to be multiplied before.

    The change of the output is, to first order, `Σ h_l ‖ΔK_l‖²`, each in its own norm of mean
    diagonals 1; here all in one, the mean by the heights `h_l`, where the moment of patches is the
    Kronecker product of its marginals. Without gradients every layer's own energy counts the same.
    Last is the sum itself, of the kernels as they are, where that is known and within `memory`.
    """
    worths = [importance.worth(layer) for layer in layers]
    norms = [
        Norm.of(one, worth, kernel)
        for one, worth, kernel in zip(seen, worths, kernels.unbind(2), strict=True)
    ]
    known = all(layer.name in importance.channels for layer in layers)
    heights = [
        _diagonal(worth) * one.height
        if known and worth is not None
        else 1 / (norm.squared(by_group(kernel, layer.config.groups))[0] or 1.0)
        for layer, worth, one, norm, kernel in zip(
            layers, worths, seen, norms, kernels.unbind(2), strict=True
        )
    ]
    if not all(heights):
        heights = [1.0] * len(heights)
    sizes = layers[0].config.shape[1:]
    parts = [_marginals(norm.seen, sizes) for norm in norms]
    inputs, *places = [_mean(heights, ones) for ones in zip(*parts, strict=True)]
    middle = torch.eye(len(layers)).to(inputs).expand(len(inputs), -1, -1)
    found = [norm.worth for norm in norms if norm.worth is not None]
    worth = _mean(heights, found) if len(found) == len(norms) else None
    largest = max(heights)
    gains = [(height / largest) ** 0.5 for height in heights]
    exact = None
    if all(norm.seen.whole is not None for norm in norms) and _fits(kernels, len(inputs), memory):
        pairs = zip(gains, norms, strict=True)
        wholes = [gain**2 * norm.seen.whole for gain, norm in pairs if norm.seen.whole is not None]
        count = sum(one.count or 0 for one in seen)
        exact = Norm(Seen(joined(wholes, sizes), count=count), worth)
    return Norm(Seen(marginals=(inputs, middle, *places)), worth), gains, exact


def _fits(kernels: Tensor, groups: int, memory: int) -> bool:
    """Whether there is room, and time, for the moment of all layers' patches in one."""
    size = prod(kernels.shape[1:])
    return size <= WIDE and 8 * groups * size**2 <= memory


def joined(moments: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """The moment `(groups, n, n)` of what layers see together, of those of each.

    `n` counts `(in, layers, *k)`, `sizes` are `(in, *k)`: each layer sees but its own.
    """
    count, axes = len(moments), len(sizes) + 1
    shape = (count, *sizes)
    whole = moments[0].new_zeros(len(moments[0]), *shape, *shape)
    for place, one in enumerate(moments):
        whole[:, place].select(axes, place).copy_(one.reshape(-1, *sizes, *sizes))
    whole = whole.transpose(1, 2).transpose(axes + 1, axes + 2)
    return whole.reshape(len(whole), prod(shape), -1)


def _diagonal(moment: Tensor) -> float:
    return float(moment.diagonal(dim1=1, dim2=2).mean())


def _mean(heights: Sequence[float], moments: Sequence[Tensor]) -> Tensor:
    parts = [height / sum(heights) * one for height, one in zip(heights, moments, strict=True)]
    return torch.stack(parts).sum(0)


def _marginals(seen: Seen, sizes: Sequence[int]) -> list[Tensor]:
    """The moment of each mode, `(groups, n, n)` of mean diagonal 1; the identity of what is not
    known."""
    found = list(seen.marginals)
    if seen.whole is not None:
        groups = len(seen.whole)
        for axis, size in enumerate(sizes):
            before, after = prod(sizes[:axis]), prod(sizes[axis + 1 :])
            apart = seen.whole.reshape(groups, before, size, after, before, size, after)
            found.append(torch.einsum("zanbamb->znm", apart))
    found = [one / _diagonal(one) for one in found]
    return found or [torch.eye(size)[None] for size in sizes]
