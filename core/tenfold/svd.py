"""The leading singular vectors of a batch of matrices, without the square of a wide one."""

from __future__ import annotations

import torch
from torch import Tensor

WIDE = 4  # from this aspect ratio on, the small Gram matrix is cheaper than the matrix itself


def leading_basis(matrix: Tensor, rank: int) -> Tensor:
    """The first `rank` left singular vectors, `(…, rows, rank)`, of `(…, rows, columns)`.

    The memory beyond the matrix is of its size, or of the square of its shorter side.

    Raises `ValueError` where `rank` exceeds either side.
    """
    rows, columns = matrix.shape[-2:]
    if not 1 <= rank <= min(rows, columns):
        raise ValueError(f"rank={rank} must be in 1 to {min(rows, columns)}, the shorter side")
    if columns >= WIDE * rows:
        vectors: Tensor = torch.linalg.eigh(matrix @ matrix.mT)[1].flip(-1)  # it sorts upwards
    else:
        vectors = torch.linalg.svd(matrix, full_matrices=False)[0]
    return vectors[..., :rank]
