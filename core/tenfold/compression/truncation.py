"""Lower ranks from one decomposition, where the format is a product of two matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..network import GROUP, KernelNetwork


def is_matrix(network: KernelNetwork) -> bool:
    """Whether it is two factors with one bond: then its best truncation is an SVD's."""
    return len(network.factors) == 2 and len(network.bonds) == 1


def by_singular_value(network: KernelNetwork, factors: Sequence[Tensor]) -> list[Tensor]:
    """Factors of the same product whose leading parts are its best approximations.

    The singular value decomposition of a product, from those of two small matrices (Golub and Van
    Loan, section 5.4).
    """
    bond = network.bonds[0]
    flats, orders, shapes = [], [], []
    for names, factor in zip(network.factors, factors, strict=True):
        rows = [axis for axis, mode in enumerate(names) if mode not in (GROUP, bond)]
        group = [axis for axis, mode in enumerate(names) if mode == GROUP]
        orders.append([*group, *rows, names.index(bond)])
        moved = factor.permute(orders[-1])
        shapes.append(moved.shape)
        flats.append(moved.reshape(moved.shape[0] if group else 1, -1, moved.shape[-1]))
    (basis, right), (other, left) = (torch.linalg.qr(flat) for flat in flats)
    u, s, v = torch.linalg.svd(right @ left.mT, full_matrices=False)
    scale = s.sqrt()[:, None]
    found = (basis @ (u * scale), other @ (v.mT * scale))
    return [
        flat.reshape(*shape[:-1], -1).permute([order.index(axis) for axis in range(len(order))])
        for flat, shape, order in zip(found, shapes, orders, strict=True)
    ]


def leading(network: KernelNetwork, factors: Sequence[Tensor]) -> list[Tensor]:
    """The leading part, of the size of the network's bond, of factors of a larger one."""
    bond = network.bonds[0]
    rank = network.sizes[bond]
    return [
        factor.narrow(names.index(bond), 0, rank)
        for names, factor in zip(network.factors, factors, strict=True)
    ]
