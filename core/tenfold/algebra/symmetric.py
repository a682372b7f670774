"""`M Mᵀ`, whose half below the diagonal is that above it: computed once."""

from __future__ import annotations

from torch import Tensor

ROWS = 512  # from which the halves are computed apart


def symmetric_product(matrix: Tensor) -> Tensor:
    """`M Mᴴ` of `(…, rows, columns)`, `(…, rows, rows)`; in blocks where that takes less time."""
    rows = matrix.shape[-2]
    product = matrix.new_empty(*matrix.shape[:-2], rows, rows)
    _fill(product, matrix, 0, rows)
    return product


def _fill(product: Tensor, matrix: Tensor, start: int, stop: int) -> None:
    first = matrix[..., start:stop, :]
    if stop - start < ROWS:
        product[..., start:stop, start:stop] = first @ first.mH
        return
    middle = (start + stop) // 2
    above = matrix[..., start:middle, :] @ matrix[..., middle:stop, :].mH
    product[..., start:middle, middle:stop] = above
    product[..., middle:stop, start:middle] = above.mH
    _fill(product, matrix, start, middle)
    _fill(product, matrix, middle, stop)
