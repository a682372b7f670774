"""The stable ranks of a kernel: how many directions its bonds have to keep."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from ..algebra import bond_matrix, by_group
from ..network import KernelNetwork


@torch.no_grad()
def stable_ranks(kernel: Tensor, network: KernelNetwork) -> tuple[float, ...]:
    """`‖A‖_F² / ‖A‖₂²` of a kernel `(out, in/groups, *k)` unfolded at each bond, in their order.

    A bond that does not part the network, as CP's, has the largest of the modes' own. Of groups the
    largest counts (Rudelson and Vershynin 2007, doi:10.1145/1255443.1255449).
    """
    opens = [network.sizes[mode] for mode in _opens(network)]
    cube = by_group(kernel, network.groups).reshape(network.groups, *opens)
    inner = tuple(tuple(m for m in modes if m != "group") for modes in network.factors)
    largest = max(_stable(_unfolded(cube, axis)) for axis in range(1, cube.dim()))
    found = []
    for bond in network.bonds:
        matrix = bond_matrix(cube, inner, bond)
        found.append(largest if matrix is None else _stable(matrix))
    return tuple(found)


def full_ranks(network: KernelNetwork) -> tuple[int, ...]:
    """The most that each bond can be of use for: the smaller side of its unfolding."""
    cube = torch.empty(network.groups, *(network.sizes[m] for m in _opens(network)), device="meta")
    inner = tuple(tuple(m for m in modes if m != "group") for modes in network.factors)
    largest = max(min(_unfolded(cube, axis).shape[1:]) for axis in range(1, cube.dim()))
    found = []
    for bond in network.bonds:
        matrix = bond_matrix(cube, inner, bond)
        found.append(largest if matrix is None else min(matrix.shape[1:]))
    return tuple(found)


def _opens(network: KernelNetwork) -> tuple[str, ...]:
    return (*network.outs, *network.ins, *network.spatial)


def _unfolded(cube: Tensor, axis: int) -> Tensor:
    moved = cube.movedim(axis, 1)
    return moved.reshape(len(cube), moved.shape[1], prod(moved.shape[2:]))


def _stable(matrix: Tensor) -> float:
    squares = torch.linalg.svdvals(matrix).square()
    return float((squares.sum(1) / squares[:, 0].clamp_min(torch.finfo(squares.dtype).tiny)).max())
