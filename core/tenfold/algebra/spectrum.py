"""What each bond of a tree network can keep of a kernel: the spectra of its unfoldings.

Cutting a bond of a network without loops parts the open modes in two; the singular values of the
kernel unfolded so say what any size of that bond loses. Truncating every bond loses, squared, no
more than the sum of what each does (Oseledets 2011, theorem 2.2; De Lathauwer et al. 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ..arguments import check_kind, check_tensor
from ..network import GROUP, IN, OUT, Modes, check_modes, spatial_modes
from .svd import gram

LARGE = 64  # the side from which float32 is worth it, and exact enough to choose ranks by


def work_dtype(tensor: Tensor) -> torch.dtype:
    """What decompositions compute in: float64, or float32 on a device without."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def by_group(kernel: Tensor, groups: int) -> Tensor:
    """A kernel `(out, in/groups, *k)` as `(groups, out, in, *k)`, detached, to compute with."""
    work = kernel.detach().to(work_dtype(kernel))
    return work.reshape(groups, kernel.shape[0] // groups, *kernel.shape[1:])


def bond_matrix(kernel: Tensor, factors: Sequence[Modes], bond: str) -> Tensor | None:
    """The kernel `(groups, out, in, *k)` unfolded at a bond: `(groups, side, other side)`.

    `factors` holds each one's modes. None where cutting the bond does not part the network: in a
    loop, or shared by many. The singular values of what comes are what the bond can keep of the
    kernel (Oseledets 2011, theorem 2.2, doi:10.1137/090752286).

    Raises `ValueError` for a bond that no factor has, and a kernel of another order; `TypeError`
    for what is no kernel, names or name.

    >>> bond_matrix(torch.randn(1, 8, 4, 3), [("out", "r"), ("r", "in", "k0")], "r").shape
    torch.Size([1, 8, 12])
    """
    check_tensor("kernel", kernel)
    check_kind("bond", bond, str)
    check_modes("factors", factors)
    names = {mode for factor in factors for mode in factor}
    opens = (OUT, IN, *spatial_modes(kernel.dim() - 3))
    if bond not in names or not names.issuperset(opens):
        raise ValueError(
            f"bond={bond!r} and the kernel's modes {opens} must be among those of factors, "
            f"{sorted(names)}"
        )
    owners = [index for index, factor in enumerate(factors) if bond in factor]
    if len(owners) != 2:
        return None
    side = {owners[0]}
    while True:
        names = {mode for index in side for mode in factors[index]} - {bond, GROUP}
        grown = {index for index, factor in enumerate(factors) if names & set(factor)} | side
        if grown == side:
            break
        side = grown
    if owners[1] in side:
        return None
    rows = [opens.index(mode) + 1 for mode in opens if mode in names]
    columns = [axis for axis in range(1, kernel.dim()) if axis not in rows]
    size = prod(kernel.shape[axis] for axis in rows)
    return kernel.permute(0, *rows, *columns).reshape(len(kernel), size, -1)


def tails(kernel: Tensor, factors: Sequence[Modes], bonds: Modes) -> dict[str, list[float]] | None:
    """What each size of each bond loses, as a fraction of `‖K‖²`: entry `b` for size `b`.

    The kernel is `(groups, out, in, *k)`. None where the network has a loop.
    """
    lost = {}
    for bond in bonds:
        matrix = bond_matrix(kernel, factors, bond)
        if matrix is None:
            return None
        if matrix.shape[1] > matrix.shape[2]:
            matrix = matrix.mT
        if matrix.shape[1] >= LARGE:
            matrix = matrix.float()
        squares = torch.linalg.eigvalsh(gram(matrix)).double().clamp_min(0).sum(0)  # ascending
        total = float(squares.sum()) or 1.0
        left = squares.cumsum(0).flip(0) / total  # entry b: all but the b largest
        lost[bond] = [*left.tolist(), 0.0]
    return lost
