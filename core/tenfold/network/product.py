"""The product of two tensors as PyTorch computes it: as one of matrices, many at a time.

Rows are modes of the first tensor and columns those of the second; what does not lie so in memory
is copied before.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

Modes = tuple[str, ...]


class Product(NamedTuple):
    """Two tensors' modes, in memory, sorted by what becomes of them in their product."""

    first: Modes
    second: Modes
    batch: Modes  # of both, kept
    rows: Modes
    columns: Modes
    summed: Modes

    @classmethod
    def of(cls, first: Modes, second: Modes, kept: Modes) -> Product:
        """`kept` are those of the product, in the order that it is asked for in."""
        return cls(
            first,
            second,
            tuple(mode for mode in kept if mode in first and mode in second),
            tuple(mode for mode in kept if mode in first and mode not in second),
            tuple(mode for mode in kept if mode in second and mode not in first),
            tuple(mode for mode in first if mode in second and mode not in kept),
        )

    @property
    def made(self) -> Modes:
        """The modes of the product, as it lies in memory."""
        if not self.summed and self.first[-1:] == self.second[-1:] == self.batch[-1:]:
            return (*self.rows, *self.columns, *self.batch)  # no matrices: element by element
        return (*self.batch, *self.rows, *self.columns)

    def copied(self, sizes: Mapping[str, int]) -> int:
        """How many elements of the two are copied to make matrices of them."""
        if not self.summed:
            return 0
        found = 0
        for tensor, own in ((self.first, self.rows), (self.second, self.columns)):
            modes = large(tensor, sizes)
            parts = [large(part, sizes) for part in (self.batch, own, self.summed)]
            if not all(_beside(part, modes) for part in parts) or modes[-1:] == parts[0][-1:] != ():
                found += prod(sizes[mode] for mode in tensor)
        return found


def large(modes: Modes, sizes: Mapping[str, int]) -> Modes:
    """Those of more than one element: the others are anywhere in memory."""
    return tuple(mode for mode in modes if sizes[mode] > 1)


def _beside(part: Modes, modes: Modes) -> bool:
    """Whether some modes of a tensor lie beside each other, in this order."""
    at = modes.index(part[0]) if part else 0
    return modes[at : at + len(part)] == part


class Dot(NamedTuple):
    """A product of two tensors that have no modes of both in it: one of matrices.

    `torch.einsum` takes it for many at a time, of which there is one, which takes longer.
    """

    first: tuple[int, ...]  # its axes, the summed ones last
    second: tuple[int, ...]  # its axes, the summed ones first
    summed: int
    order: tuple[int, ...]  # of the axes that are left; empty where it is theirs

    @classmethod
    def of(cls, equation: str) -> Dot | None:
        """The product of an equation of `torch.einsum`; None where that is another."""
        given, _, wanted = equation.partition("->")
        first, _, second = given.partition(",")
        both = [letter for letter in first if letter in second]
        mine, yours = ([m for m in some if m not in both] for some in (first, second))
        if not both or sorted(mine + yours) != sorted(wanted):
            return None
        order = tuple(map((mine + yours).index, wanted))
        return cls(
            tuple(map(first.index, mine + both)),
            tuple(map(second.index, both + yours)),
            len(both),
            () if order == tuple(range(len(order))) else order,
        )

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        first, second = first.permute(self.first), second.permute(self.second)
        rows, columns = first.shape[: -self.summed], second.shape[self.summed :]
        inner = prod(second.shape[: self.summed])
        found = torch.mm(first.reshape(prod(rows), inner), second.reshape(inner, prod(columns)))
        found = found.reshape(rows + columns)
        return found.permute(self.order) if self.order else found
