"""The freedom of a network's bonds: changes of basis that leave the kernel as it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..network import KernelNetwork, Modes
from .svd import signs


def least_norm(
    factors: Sequence[Tensor], network: KernelNetwork, constants: Collection[int] = ()
) -> list[Tensor]:
    """The same kernel with the least `Σ‖factor‖²` that a change of basis of each bond allows.

    Two factors that share a bond, `A B`, become `U√S` and `√S V` with `A B = U S V`: what is large
    in one and small in the other is evened out, and rounding costs least. The bonds of `constants`,
    factors by their indices, stay as they are.
    """
    found = list(factors)
    for bond in network.bonds:
        owners = [index for index, modes in enumerate(network.factors) if bond in modes]
        if len(owners) != 2 or not set(owners).isdisjoint(constants):
            continue
        first, last = (_Side.of(network.factors, owners, place, bond) for place in (0, 1))
        (qa, ra), (qb, rb) = (
            torch.linalg.qr(side.unfold(found[index]))
            for side, index in zip((first, last), owners, strict=True)
        )
        u, s, v = torch.linalg.svd(ra @ rb.mT, full_matrices=False)
        left, right = qa @ u, qb @ v.mT
        root = s.sqrt()[..., None, :] * signs(left)
        halves = (left * root, right * root.conj())
        for side, index, half in zip((first, last), owners, halves, strict=True):
            found[index] = side.fold(half, found[index].shape)
    return found


@dataclass(frozen=True)
class _Side:
    """One of two factors that share a bond: its axes as (modes of both, the rest, the bond)."""

    order: tuple[int, ...]
    shared: int

    @classmethod
    def of(cls, factors: Sequence[Modes], owners: Sequence[int], place: int, bond: str) -> _Side:
        mine, other = factors[owners[place]], factors[owners[1 - place]]
        shared = sorted(mode for mode in mine if mode in other and mode != bond)
        rest = [mode for mode in mine if mode not in other]
        return cls(tuple(mine.index(mode) for mode in (*shared, *rest, bond)), len(shared))

    def unfold(self, factor: Tensor) -> Tensor:
        moved = factor.permute(self.order)
        sizes = moved.shape[: self.shared]
        return moved.reshape(*sizes, -1, moved.shape[-1])

    def fold(self, unfolded: Tensor, shape: Sequence[int]) -> Tensor:
        """The factor of that `shape` again; a bond of fewer columns is filled up with zeros."""
        missing = shape[self.order[-1]] - unfolded.shape[-1]
        full = F.pad(unfolded, (0, missing))
        moved = full.reshape([shape[axis] for axis in self.order])
        return moved.permute([self.order.index(axis) for axis in range(len(shape))])
