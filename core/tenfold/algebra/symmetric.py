"""`M Mᴴ`, whose half below the diagonal is that above it: computed once."""

from __future__ import annotations

from torch import Tensor

ROWS = 512  # from which the halves are computed apart


def symmetric_product(matrix: Tensor) -> Tensor:
    """`M Mᴴ` of `(…, rows, columns)`, `(…, rows, rows)`; in blocks where that takes less time."""
    rows = matrix.shape[-2]
    product = matrix.new_zeros(*matrix.shape[:-2], rows, rows)
    add_square(product, matrix)
    return mirrored(product)


def add_square(total: Tensor, matrix: Tensor) -> None:
    """Add `M Mᴴ` to the half of `total` above the diagonal; `mirrored` gives the other at last.

    `total` is `(groups, rows, rows)`, or has no groups. In blocks where that takes less time: those
    on the diagonal are added whole.
    """
    for some, others in _blocks(total.shape[-1]):
        first, second = matrix[..., some, :], matrix[..., others, :].mH
        part = total[..., some, others]
        if total.dim() == 3:
            part.baddbmm_(first, second)
        else:
            part.addmm_(first, second)


def mirrored(total: Tensor) -> Tensor:
    """The same, with the half above the diagonal below it."""
    for some, others in _blocks(total.shape[-1]):
        if some != others:
            total[..., others, some] = total[..., some, others].mH
    return total


def _blocks(stop: int, start: int = 0) -> list[tuple[slice, slice]]:
    if stop - start < ROWS:
        return [(slice(start, stop), slice(start, stop))]
    middle = (start + stop) // 2
    above = (slice(start, middle), slice(middle, stop))
    return [above, *_blocks(middle, start), *_blocks(stop, middle)]
