"""Large moments of few patches: what is in few directions, and what is the same in all others.

The moment of `few` patches of `n` numbers has `few` directions, and a ridge the same height in all
others. So its powers take products with `n × few` matrices, where a Cholesky factor of `(n, n)`
takes `n³ / 3`. The directions are found by a random sketch (Halko et al. 2011, arXiv 0909.4061).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

LARGE = 2048  # rows, from which it is worth it
MOST = 512  # directions
SPARE = 16  # more columns than directions
FLAT = 1e-6  # of the largest eigenvalue: how far those of the same height are apart
NOTHING = 1e-6  # of all that there is: what the directions may leave out


@dataclass(frozen=True)
class Spread:
    """A symmetric matrix for each group, `level + Q (values − level) Qᵀ`; applied by `@`.

    `Q` are `directions`, `(groups, n, few)`, with orthonormal columns; `values` are
    `(groups, few)`, and `level` is `(groups,)`.
    """

    directions: Tensor
    values: Tensor
    level: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        groups, size, _ = self.directions.shape
        return groups, size, size

    @property
    def mT(self) -> Spread:  # noqa: N802 - as a tensor's
        return self

    @property
    def mH(self) -> Spread:  # noqa: N802
        return self

    def to(self, like: Tensor) -> Spread:
        """In the dtype and on the device of a tensor."""
        parts = (one.to(like) for one in (self.directions, self.values, self.level))
        return Spread(*parts)

    def power(self, exponent: float, ridge: float | Tensor = 0.0) -> Spread:
        """A power of the matrix, `ridge` times the identity added first."""
        values, level = ((one + ridge).pow(exponent) for one in (self.values, self.level))
        return replace(self, values=values, level=level)

    def __matmul__(self, other: Tensor) -> Tensor:
        level = self.level[:, None, None]
        apart = (self.values[:, :, None] - level) * (self.directions.mT @ other)
        return level * other + self.directions @ apart


def few_directions(moment: Tensor) -> Spread | None:
    """A large moment `(groups, n, n)`, if all but `MOST` of its directions have the same height.

    None of a small or complex one too.
    """
    if moment.shape[1] < LARGE or moment.is_complex():
        return None
    places = torch.arange(MOST + SPARE) * len(moment[0]) // (MOST + SPARE)  # neighbours are alike
    some = moment[:, places][:, :, places]  # as many directions, as a rule
    heights = torch.linalg.eigvalsh(some.double())
    above = heights - heights[:, :1] > FLAT * heights[:, -1:]
    few = int(above.sum(1).max())
    if few > MOST:
        return None
    level = heights.masked_fill(above, 0.0).sum(1) / (~above).sum(1)
    return _above(moment, level.clamp_min(0).to(moment), few + SPARE)


def _above(moment: Tensor, level: Tensor, columns: int) -> Spread | None:
    """What of a moment is above a level, if that has no more directions than columns."""
    size = moment.shape[1]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(size, columns, generator=generator)
    found = drawn.to(moment).expand(len(moment), -1, -1)
    for _ in range(2):  # the second time squares how far they are above
        found = torch.linalg.qr(moment @ found - level[:, None, None] * found).Q
    inner = found.mT @ (moment @ found)
    whole, caught = (one.diagonal(dim1=1, dim2=2).sum(1) for one in (moment, inner))
    others = (whole - caught) / (size - columns)  # the mean height of what is left
    if bool((others - level > NOTHING * whole / size).any()):
        return None
    values, turns = torch.linalg.eigh(inner)
    return Spread(found @ turns, torch.maximum(values, level[:, None]), level)
