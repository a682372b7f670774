"""CPs to start from, and the exact one; kernels are `(groups, out, in, *k)`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def largest_terms(kernel: Tensor, rank: int) -> list[Tensor]:
    """The `rank` largest terms of an exact CP: each spatial basis function's singular triplets.

    The spatial modes are turned to their singular bases; there each position is a matrix, whose SVD
    gives outer products that are orthogonal to all others, so the start is not degenerate.
    """
    groups, orders = len(kernel), range(kernel.dim() - 3)
    bases, turned = [], kernel
    for axis in orders:
        unfolded = turned.movedim(3 + axis, 1)
        basis = torch.linalg.eigh(unfolded.flatten(2) @ unfolded.flatten(2).mT)[1]
        turned = (basis.mT @ unfolded.flatten(2)).reshape(unfolded.shape).movedim(1, 3 + axis)
        bases.append(basis)
    positions = torch.cartesian_prod(*map(torch.arange, kernel.shape[3:])) if bases else None
    matrices = turned.flatten(3) if bases else turned.unsqueeze(3)
    u, s, v = torch.linalg.svd(matrices.permute(0, 3, 1, 2), full_matrices=False)
    chosen = s.flatten(1).topk(rank, dim=1).indices
    place, triplet = chosen // s.shape[2], chosen % s.shape[2]
    group = torch.arange(groups, device=kernel.device)[:, None]
    a = u[group, place, :, triplet].mT
    b = (v[group, place, triplet] * s[group, place, triplet, None]).mT
    factors = [a, b]
    for axis, basis in enumerate(bases):
        assert positions is not None
        columns = positions.to(place.device).reshape(-1, len(bases))[place, axis]  # (groups, rank)
        factors.append(basis.gather(2, columns[:, None].expand(-1, basis.shape[1], -1)))
    return balanced(factors)


def disturbed(
    factors: Sequence[Tensor], noise: float, generator: torch.Generator | None
) -> list[Tensor]:
    """Factors with normal noise on the spatial ones, of `noise` times their root mean square.

    The largest terms have one spatial basis function each, which takes sweeps to leave.
    """
    device = generator.device if generator is not None else "cpu"
    found = list(factors)
    for place, factor in enumerate(found[2:], start=2):
        drawn = torch.randn(factor.shape, generator=generator, dtype=torch.float64, device=device)
        level = factor.square().mean((1, 2), keepdim=True).sqrt()
        found[place] = factor + noise * level * drawn.to(factor)
    return found


def exact(kernel: Tensor) -> list[Tensor]:
    """The exact CP of any kernel: one term for each fibre along its largest mode.

    That mode's factor holds the fibres; the others' columns are unit vectors that place them.
    """
    groups, *sizes = kernel.shape
    largest = sizes.index(max(sizes))
    others = [size for mode, size in enumerate(sizes) if mode != largest]
    places = iter(torch.cartesian_prod(*map(torch.arange, others)).reshape(-1, len(others)).T)
    factors = []
    for mode, size in enumerate(sizes):
        if mode == largest:
            factors.append(kernel.movedim(mode + 1, 1).reshape(groups, size, -1))
        else:
            unit = torch.eye(size, dtype=kernel.dtype)[next(places)].T.to(kernel.device)
            factors.append(unit.expand(groups, -1, -1).clone())
    return factors


def balanced(factors: Sequence[Tensor]) -> list[Tensor]:
    """Give the factors' columns equal norms, term by term; those of a zero term stay."""
    norms = torch.stack([torch.linalg.vector_norm(one, dim=1, keepdim=True) for one in factors])
    logs = norms.log()
    gains = torch.where((norms > 0).all(0), (logs.mean(0) - logs).exp_(), 1.0)
    return [factor * gain for factor, gain in zip(factors, gains.unbind(), strict=True)]
