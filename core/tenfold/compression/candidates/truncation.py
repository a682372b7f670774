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
    core = found[middle]
    for turn in ("leaf", "core"):
        for index, modes in enumerate(names):
            if index == middle:
                continue
            bond = next(mode for mode in modes if mode in network.bonds)
            leaf, place = found[index].movedim(modes.index(bond), -1), names[middle].index(bond)
            flat = leaf.flatten(1, -2)
            moved = core.movedim(place, 1)
            if turn == "leaf":
                if _is_sorted(flat.mT @ flat, alike=True):
                    continue  # orthonormal columns, but for their scale
                flat, gain = torch.linalg.qr(flat)
            else:
                squares = gram(moved.flatten(2))
                if _is_sorted(squares):
                    continue
                basis = torch.linalg.eigh(squares)[1].flip(-1)
                basis = basis * signs(basis)
                flat, gain = flat @ basis, basis.mT
            turned = (gain @ moved.flatten(2)).reshape(len(moved), -1, *moved.shape[2:])
            core = turned.movedim(1, place)
            leaf = flat.reshape(*leaf.shape[:-1], -1)
            found[index] = leaf.movedim(-1, modes.index(bond))
    found[middle] = core
    return [
        one.movedim(0, modes.index(GROUP)) if GROUP in modes else one[0]
        for one, modes in zip(found, network.factors, strict=True)
    ]


def _is_sorted(squares: Tensor, alike: bool = False) -> bool:
    """Whether `(groups, n, n)` are diagonal and fall, or are `alike`, as far as rounding tells."""
    diagonal = squares.diagonal(dim1=1, dim2=2)
    apart = (squares - torch.diag_embed(diagonal)).abs().amax((1, 2))
    rises = diagonal.diff(dim=1).clamp_min(0) if not alike else diagonal.diff(dim=1).abs()
    most = ROUNDING * diagonal.amax(1)
    return bool((apart <= most).all() and (rises <= most[:, None]).all())


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
    found = []
    for names, factor in zip(network.factors, factors, strict=True):
        for axis, mode in enumerate(names):
            if mode in network.bonds:
                factor = factor.narrow(axis, 0, network.sizes[mode])
        found.append(factor)
    return found


def _grouped(names: Sequence[str], factor: Tensor) -> Tensor:
    return factor.movedim(names.index(GROUP), 0) if GROUP in names else factor[None]
