"""Singular value decompositions of kernels: one basis, and a whole chain of factors."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from ..arguments import check_count, check_kind, check_tensor
from ..network import GROUP, KernelNetwork
from .threads import on_one_thread

LARGE = 2**16  # elements from which only the Gram matrix is made; its rounding, 1e-8, is little
WIDE = 512  # the shorter side from which a basis of few vectors is sought among a few products
STEPS = 3  # of the block Krylov iteration for it
SPARE = 16  # vectors more than are wanted
SAFE = 1e9  # its squares, of many elements, are finite in float32
FAR = 1e-4  # of the energy: what is left out beyond it, rounding in float32 does not change
CLEAR = 1e-8  # of the largest: kept eigenvalues above it give a basis that costs 1e-12 at most


def leading_basis(matrix: Tensor, rank: int) -> Tensor:
    """The first `rank` left singular vectors, `(…, rows, rank)`, of `(…, rows, columns)`.

    By them is the best approximation of that rank (Eckart and Young 1936, doi:10.1007/BF02288367).
    The memory beyond the matrix is of its size, or of the square of its shorter side. A few vectors
    of a large matrix are sought by randomized block Krylov iteration (Musco and Musco 2015, arXiv
    1504.05477), the same each time: the error is within some thousandths of the best.

    Raises `ValueError` where `rank` exceeds either side, and `TypeError` for what is no matrix or
    int.

    >>> matrix = torch.randn(6, 2) @ torch.randn(2, 9)
    >>> basis = leading_basis(matrix, rank=2)
    >>> basis.shape, relative_error(matrix, basis @ basis.mT @ matrix) < 1e-5
    (torch.Size([6, 2]), True)
    """
    _check(matrix, rank)
    return _sought(matrix, rank)[0] if _few(matrix, rank) else _of_gram(matrix, rank)


def truncated_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation of a rank as a product: `(…, rows, rank)` by `(…, rank, columns)`.

    The first are the columns of `leading_basis`, orthonormal, the second what they see of the
    matrix (Eckart and Young 1936, doi:10.1007/BF02288367). Raises as that does.

    >>> basis, rest = truncated_svd(torch.randn(6, 2) @ torch.randn(2, 9), rank=2)
    >>> basis.shape, rest.shape
    (torch.Size([6, 2]), torch.Size([2, 9]))
    """
    _check(matrix, rank)
    if _few(matrix, rank):
        return _sought(matrix, rank)
    basis = _of_gram(matrix, rank)
    return basis, basis.mT @ matrix


def _check(matrix: Tensor, rank: int) -> None:
    if check_tensor("matrix", matrix).dim() < 2:
        raise ValueError(f"matrix of shape {tuple(matrix.shape)} must have two axes or more")
    check_count("rank", rank)
    least = min(matrix.shape[-2:])
    if not 1 <= rank <= least:
        raise ValueError(f"rank={rank} must be in 1 to {least}, the shorter side")


def _few(matrix: Tensor, rank: int) -> bool:
    """Whether so few vectors of a matrix are wanted that they are sought."""
    least = min(matrix.shape[-2:])
    return STEPS * (rank + SPARE) <= least // 4 and least >= WIDE


def _of_gram(matrix: Tensor, rank: int) -> Tensor:
    """The leading basis by the eigenvectors of the smaller of `M Mᵀ` and `Mᵀ M`."""
    rows, columns = matrix.shape[-2:]
    left = 4 * rows <= 5 * columns  # its vectors are the basis; the other side's cost a QR more
    values, vectors = torch.linalg.eigh(gram(matrix if left else matrix.mT))
    chosen: Tensor = vectors.flip(-1)[..., :rank]  # it sorts upwards
    whole = rank == values.shape[-1]  # any basis will do
    if not whole and rows * columns < LARGE:
        clear = values[..., -rank] > CLEAR * values[..., -1]
        if not bool(clear.all()):
            left, chosen = True, torch.linalg.svd(matrix, full_matrices=False)[0][..., :rank]
    if not left:
        chosen = torch.linalg.qr(matrix @ chosen)[0]
    return chosen * signs(chosen)


def _sought(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The leading basis among `M Ω, (M Mᵀ) M Ω, …`, of a random `Ω` that is always the same.

    What is sought among needs no more digits than float32 has, nor has what leaves much out; else a
    last step gives what is found all. Beside it what it sees of the matrix, as exact.
    """
    short = matrix.float()
    sizes, scale = torch.linalg.vector_norm(short, dim=(-2, -1)), None
    if not 1 / SAFE < float(sizes.amax()) < SAFE:
        largest = torch.linalg.vector_norm(matrix, torch.inf)
        scale = largest.clamp_min(torch.finfo(matrix.dtype).tiny)
        matrix = matrix / scale
        short = matrix.float()
        sizes = torch.linalg.vector_norm(short, dim=(-2, -1))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(short.shape[-1], rank + SPARE, generator=generator).to(short)
    found = [_orthogonal(short @ drawn)[0]]
    seen = [found[0].mT @ short]
    for _ in range(STEPS - 1):
        found.append(_orthogonal(short @ seen[-1].mT)[0])
        seen.append(found[-1].mT @ short)
    basis, mixed = _orthogonal(torch.cat(found, -1))
    projected = torch.linalg.solve_triangular(mixed.mT, torch.cat(seen, -2), upper=False)
    squares, vectors = _eigen(gram(projected))
    first = basis @ vectors.flip(-1)[..., : rank + SPARE]
    energy = sizes.square()
    if bool((energy - squares.flip(-1)[..., :rank].sum(-1) > FAR * energy).all()):
        chosen = _orthogonal(first[..., :rank].to(matrix))[0]
        rest = (chosen.mT.to(short) @ short).to(matrix)
    else:
        basis = _orthogonal(matrix @ (matrix.mT @ first.to(matrix)))[0]
        last = basis.mT @ matrix
        turn = _eigen(gram(last))[1].flip(-1)[..., :rank]
        chosen, rest = basis @ turn, turn.mT @ last
    turned = signs(chosen)
    return chosen * turned, turned.mT * (rest if scale is None else rest * scale)


def _orthogonal(tall: Tensor) -> tuple[Tensor, Tensor]:
    """QR; of a matrix as narrow as these, on one thread."""
    with on_one_thread(tall.numel()):
        basis, mixed = torch.linalg.qr(tall)
    return basis, mixed


def _eigen(square: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, upwards, and vectors of what is as small, on one thread."""
    with on_one_thread(square.numel()):
        values, vectors = torch.linalg.eigh(square)
    return values, vectors


def gram(matrix: Tensor) -> Tensor:
    """`M Mᴴ`, with a ridge of rounding's size.

    Without it LAPACK may not converge in float32, as on a kernel with channels of zeros.
    """
    product = matrix @ matrix.mH
    diagonal = product.diagonal(dim1=-2, dim2=-1)
    diagonal += torch.finfo(product.dtype).eps * diagonal.real.amax(-1, keepdim=True)
    return product


def signs(vectors: Tensor) -> Tensor:
    """1 or -1 for each column, `(…, 1, columns)`, that makes its largest element positive.

    Else rounding, and so the number of threads, would choose the signs of singular vectors.
    """
    return vectors.gather(-2, vectors.abs().argmax(-2, keepdim=True)).sgn()


def chain_svd(
    kernel: Tensor,  # (groups, out, in, *k)
    network: KernelNetwork,
) -> list[Tensor]:
    """The factors of a `network` that is a chain, each bound to the next by one bond.

    `kernel` is `(groups, out, in, *k)`; the factors have a leading axis of groups too. One after
    another is split off by a truncated SVD (Oseledets 2011, doi:10.1137/090752286): optimal for two
    factors, within `√(factors − 1)` of it for more.

    Raises `ValueError` for a bond above what is exact, and a network without the mode `group`;
    `TypeError` for what is no kernel or network.

    >>> network = factorizations["spatial_svd"]().network((8, 4, 3, 3), 12, groups=2)
    >>> kernel = torch.randn(8, 4, 3, 3)
    >>> factors = chain_svd(kernel.unflatten(0, (2, 4)), network)
    >>> relative_error(kernel, network.to_tensor(factors)) < 1e-5
    True
    """
    check_kind("network", network, KernelNetwork)
    check_tensor("kernel", kernel)
    if GROUP not in network.sizes:
        raise ValueError(
            f"network of {network.factors} must have the mode {GROUP!r}, of size 1 or more"
        )
    wanted = tuple(network.sizes[mode] for mode in network.open_modes)
    if tuple(kernel.shape) != wanted:
        raise ValueError(f"kernel of shape {tuple(kernel.shape)} must have the network's, {wanted}")
    opens = [tuple(mode for mode in f if mode in network.open_modes) for f in network.factors]
    order = [mode for modes in opens for mode in modes if mode != GROUP]
    axes = [network.open_modes.index(mode) for mode in order]
    groups, rest, bond = len(kernel), kernel.permute(0, *axes), 1
    factors: list[Tensor] = []
    for modes, name in zip(opens, network.bonds, strict=False):
        sizes = [network.sizes[mode] for mode in modes if mode != GROUP]
        matrix, kept = rest.reshape(groups, bond * prod(sizes), -1), network.sizes[name]
        basis, left = truncated_svd(matrix, kept)
        before = [bond] if factors else []
        factors.append(basis.reshape(groups, *before, *sizes, kept))
        rest, bond = left, kept
    last = [network.sizes[mode] for mode in opens[-1] if mode != GROUP]
    return [*factors, rest.reshape(groups, bond, *last)]
