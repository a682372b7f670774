"""Axes of a tensor turned into a basis, and back."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

LONG = 32  # rows of what stands behind an axis, from which no copy pays


def turned(value: Tensor, bases: Mapping[int, Tensor], back: bool = False) -> Tensor:
    """A tensor in the bases of some of its axes, or back from them."""
    for axis, basis in bases.items():
        value = times(basis if back else basis.mT, value, axis)
    return value


def times(matrix: Tensor, value: Tensor, axis: int) -> Tensor:
    """A matrix times an axis, without copies of large tensors where that can be."""
    shape = value.shape
    after = prod(shape[axis + 1 :])
    if after == 1:
        return (value.reshape(-1, shape[axis]) @ matrix.mT).reshape(shape)
    if axis == 0 or after >= LONG:
        return (matrix @ value.reshape(-1, shape[axis], after)).reshape(shape)
    made: Tensor = torch.tensordot(matrix, value, ([1], [axis]))
    return made.movedim(0, axis)


def eigenbasis(moment: Tensor) -> Tensor:
    """The eigenvectors of a second moment, `(n, n)`, found in double precision."""
    wide = moment.double() / moment.diagonal().sum().clamp_min(1e-30)
    _, vectors = torch.linalg.eigh(wide + 1e-9 * torch.eye(len(wide)).to(wide))
    return torch.as_tensor(vectors).to(moment)
