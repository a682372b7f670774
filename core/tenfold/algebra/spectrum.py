"""What the bonds of a network can keep of a kernel: the spectra of its unfoldings.

Cutting a bond of a network without loops parts the open modes in two; the singular values of the
kernel unfolded so say what any size of that bond loses, and of a loop what the product of the bonds
that a cut crosses does. Truncating every bond loses, squared, no
more than the sum of what each does (Oseledets 2011, theorem 2.2; De Lathauwer et al. 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import prod

import torch
from torch import Tensor

from ..arguments import check_kind, check_tensor
from ..network import GROUP, Modes, check_modes, cuts, opens_of
from .svd import gram

LARGE = 64  # the side from which float32 is worth it, and exact enough to choose ranks by


def work_dtype(tensor: Tensor) -> torch.dtype:
    """What decompositions compute in: float64, or float32 on a device without; or the complex."""
    narrow = tensor.device.type == "mps"
    if tensor.is_complex():
        return torch.complex64 if narrow else torch.complex128
    return torch.float32 if narrow else torch.float64


def by_group(kernel: Tensor, groups: int) -> Tensor:
    """A kernel `(out, in/groups, *k)` as `(groups, out, in, *k)`, detached, to compute with."""
    work = kernel.detach().to(work_dtype(kernel))
    return work.reshape(groups, kernel.shape[0] // groups, *kernel.shape[1:])


def in_real(kernel: Tensor) -> Tensor:
    """A complex kernel `(groups, out, in, *k)` as a real one, its two parts groups beside each
    other, for what chooses ranks by real kernels."""
    return torch.cat([kernel.real, kernel.imag]) if kernel.is_complex() else kernel


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
    opens = opens_of(map(tuple, factors))
    if bond not in names or len(opens) != kernel.dim() - 1:
        raise ValueError(
            f"bond={bond!r} and a mode for each axis of the kernel {tuple(kernel.shape)} must be "
            f"among those of factors, {sorted(names)}"
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


def tails(kernel: Tensor, factors: Sequence[Modes]) -> dict[Modes, list[float]]:
    """What each product of the bonds of each cut loses, as a fraction of `‖K‖²`: entry `b` for `b`.

    The kernel has an axis of groups, and one for each open mode. Of two parts it is the least that
    is lost; of more, as the factors of CP, the least of those that are sums of fibres of the
    higher-order SVD.
    """
    opens = opens_of(map(tuple, factors))
    lost = {}
    for cut in cuts(tuple(map(tuple, factors))):
        batch = kernel.permute(0, *(opens.index(m) + 1 for m in (*cut.shared, *chain(*cut.parts))))
        sizes = dict(zip(opens, kernel.shape[1:], strict=True))
        cube = batch.reshape(-1, *cut.sides(sizes))
        if max(sorted(cube.shape[1:])[:-1]) >= LARGE:
            cube = cube.to(torch.complex64 if cube.is_complex() else torch.float32)
        squares = (spectrum(cube) if cube.dim() == 3 else fibres(cube)).double().sum(0)
        total = float(squares.sum()) or 1.0
        left = squares.flip(0).cumsum(0).flip(0) / total  # entry b: all but the b largest
        lost[cut.bonds] = [*left.tolist(), 0.0]
    return lost


def spectrum(matrix: Tensor) -> Tensor:
    """The squared singular values of `(batch, rows, columns)`, the largest first."""
    wide = matrix if matrix.shape[1] <= matrix.shape[2] else matrix.mT
    squares: Tensor = torch.linalg.eigvalsh(gram(wide))
    return squares.clamp_min(0).flip(1)


def fibres(cube: Tensor) -> Tensor:
    """The squared norms of the fibres along the largest side of the core, the largest first.

    The core is that of the higher-order SVD of `(batch, *sides)`; each fibre is an outer product.
    """
    longest = max(range(1, cube.dim()), key=lambda axis: cube.shape[axis])
    for axis in range(1, cube.dim()):
        if axis != longest:
            moved = cube.movedim(axis, 1)
            basis = torch.linalg.eigh(gram(moved.flatten(2)))[1]
            cube = (basis.mH @ moved.flatten(2)).reshape(moved.shape).movedim(1, axis)
    return (cube * cube.conj()).real.sum(longest).flatten(1).sort(descending=True)[0]
