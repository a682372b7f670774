"""The stable ranks of a kernel: how many directions its bonds have to keep."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from ..algebra import bond_matrix, by_group
from ..network import GROUP, KernelNetwork, terms_of


@torch.no_grad()
def stable_ranks(kernel: Tensor, network: KernelNetwork) -> tuple[float, ...]:
    """`‖A‖_F² / ‖A‖₂²` of a kernel `(out, in/groups, *k)` unfolded at each bond, in their order.

    A bond that does not part the network, as CP's, has the largest of the modes' own. Of groups the
    largest counts (Rudelson and Vershynin 2007, doi:10.1145/1255443.1255449). Each term of a sum
    has those of the whole kernel.
    """
    work = by_group(kernel, network.groups)
    return tuple(_stable(one) for term in terms_of(network) for one in _unfoldings(work, term))


def full_ranks(network: KernelNetwork) -> tuple[int, ...]:
    """The most that each bond can be of use for: the smaller side of its unfolding."""
    groups, shape = network.groups, network.shape
    work = torch.empty(groups, shape[0] // groups, *shape[1:], device="meta")
    found = [one for term in terms_of(network) for one in _unfoldings(work, term)]
    return tuple(max(min(matrix.shape[1:]) for matrix in one) for one in found)


def _unfoldings(kernel: Tensor, network: KernelNetwork) -> list[list[Tensor]]:
    """For each bond the unfolding at it, `(groups, side, other side)`, or those at every mode."""
    opens = [mode for mode in network.open_modes if mode != GROUP]
    cube = kernel.reshape(len(kernel), *(network.sizes[mode] for mode in opens))
    modes = [tuple(mode for mode in factor if mode != GROUP) for factor in network.factors]
    alone = [_at(cube, axis) for axis in range(1, cube.dim())]
    parted = [bond_matrix(cube, modes, bond) for bond in network.bonds]
    return [alone if matrix is None else [matrix] for matrix in parted]


def _at(cube: Tensor, axis: int) -> Tensor:
    moved = cube.movedim(axis, 1)
    return moved.reshape(len(cube), moved.shape[1], prod(moved.shape[2:]))


def _stable(unfoldings: list[Tensor]) -> float:
    found = []
    for matrix in unfoldings:
        squares = torch.linalg.svdvals(matrix).square()
        tiny = torch.finfo(squares.dtype).tiny
        found.append(float((squares.sum(1) / squares[:, 0].clamp_min(tiny)).max()))
    return max(found)
