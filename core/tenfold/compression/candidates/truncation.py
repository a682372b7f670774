"""Lower ranks from one decomposition, where the format is a centre with leaves: SVDs and Tucker.

With orthonormal leaves, and the centre turned to the singular bases of its unfoldings, the leading
part of every bond is the truncated higher-order singular value decomposition, within the root of
the number of bonds of the best (De Lathauwer et al. 2000, doi:10.1137/S0895479896305696), and for
one bond the best itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...algebra import gram, signs
from ...network import GROUP, KernelNetwork

ROUNDING = 1e-5  # of the largest square


def centre(network: KernelNetwork) -> int | None:
    """The factor that has every bond, where each other one has one bond of its own; else None."""
    bonds = set(network.bonds)
    for index, names in enumerate(network.factors):
        leaves = [f for place, f in enumerate(network.factors) if place != index]
        owned = [bond for leaf in leaves for bond in leaf if bond in bonds]
        if bonds <= set(names) and len(owned) == len(leaves) == len(set(owned)) == len(bonds):
            return index
    return None


def ordered(network: KernelNetwork, factors: Sequence[Tensor], middle: int) -> list[Tensor]:
    """Factors of the same kernel, whose leading parts are its truncations.

    Nothing is done to those that are so already, as the higher-order SVD gives them.
    """
    found = [_grouped(names, f) for names, f in zip(network.factors, factors, strict=True)]
    names = [(GROUP, *(m for m in one if m != GROUP)) for one in network.factors]
    for turn in (_orthonormal, _diagonal):
        for index, modes in enumerate(names):
            if index == middle:
                continue
            bond = next(mode for mode in modes if mode in network.bonds)
            leaf, place = found[index].movedim(modes.index(bond), -1), names[middle].index(bond)
            core = found[middle].movedim(place, 1)
            flat, seen = turn(leaf.flatten(1, -2), core.flatten(2))
            found[index] = flat.reshape(*leaf.shape[:-1], -1).movedim(-1, modes.index(bond))
            found[middle] = seen.reshape(len(core), -1, *core.shape[2:]).movedim(1, place)
    return [
        one.movedim(0, modes.index(GROUP)) if GROUP in modes else one[0]
        for one, modes in zip(found, network.factors, strict=True)
    ]


def _orthonormal(leaf: Tensor, core: Tensor) -> tuple[Tensor, Tensor]:
    """A leaf `(groups, n, r)` with orthonormal columns, and its core `(groups, r, …)`."""
    squares = leaf.mT @ leaf
    if _falls(squares) and _falls(squares.flip(1, 2)):  # they are, but for their size
        size = squares.diagonal(dim1=1, dim2=2).mean(1).sqrt()[:, None, None]
        size = size.clamp_min(torch.finfo(leaf.dtype).tiny)  # of a kernel of zeros
        return leaf / size, core * size
    flat, gain = torch.linalg.qr(leaf)
    return flat, gain @ core


def _diagonal(leaf: Tensor, core: Tensor) -> tuple[Tensor, Tensor]:
    """The same turned so that the core's rows are orthogonal, and fall."""
    squares = gram(core)
    if _falls(squares):
        return leaf, core
    basis = torch.linalg.eigh(squares)[1].flip(-1)
    basis = basis * signs(basis)
    return leaf @ basis, basis.mT @ core


def _falls(squares: Tensor) -> bool:
    """Whether `(groups, n, n)` are diagonal and do not rise, as far as rounding tells."""
    diagonal = squares.diagonal(dim1=1, dim2=2)
    least = ROUNDING * diagonal.amax(1, keepdim=True)
    apart = (squares - torch.diag_embed(diagonal)).abs().amax(2)
    return bool((apart <= least).all() and (diagonal.diff(dim=1) <= least).all())


def kept(network: KernelNetwork, factors: Sequence[Tensor], middle: int) -> Tensor:
    """What the leading parts keep of `‖K‖²`: entry `(r0 - 1, …)` for the bonds' sizes `(r0, …)`."""
    names = network.factors[middle]
    squares = factors[middle].square()
    rest = [axis for axis, mode in enumerate(names) if mode not in network.bonds]
    squares = squares.sum(rest) if rest else squares
    left = [mode for mode in names if mode in network.bonds]
    squares = squares.permute([left.index(bond) for bond in network.bonds])
    for axis in range(squares.dim()):
        squares = squares.cumsum(axis)
    return squares


def leading(network: KernelNetwork, factors: Sequence[Tensor]) -> list[Tensor]:
    """The leading parts, of the sizes of the network's bonds, of factors of larger ones."""
    pairs = zip(network.factors, factors, strict=True)
    return [leading_part(names, factor, network) for names, factor in pairs]


def leading_part(names: Sequence[str], factor: Tensor, network: KernelNetwork) -> Tensor:
    """That of one tensor with such modes."""
    for axis, mode in enumerate(names):
        if mode in network.bonds:
            factor = factor.narrow(axis, 0, network.sizes[mode])
    return factor


def _grouped(names: Sequence[str], factor: Tensor) -> Tensor:
    return factor.movedim(names.index(GROUP), 0) if GROUP in names else factor[None]
