"""Decompose in the norm of what a layer sees, for any format.

The output error is a norm of `K M^{1/2}`. A factor that holds some input modes can absorb the
square root of their marginal moment; with the moment taken as the Kronecker product of the
marginals of the factors' input modes, the weighted problem is the plain one for a turned kernel.
It is exact for a format whose first factor holds all of them (channel SVD: `K̂ = [KL]_r L⁻¹`, Zhang
et al. 2016, arXiv 1505.06798); for Tucker-2 it is `Σ_channel ⊗ Σ_spatial`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..network import GROUP, OUT, Modes, opens_of
from .spectrum import work_dtype
from .spread import Spread, few_directions

RIDGE = 1e-5  # of the mean diagonal
RIDGES = RIDGE, 1e-4, 1e-3, 1e-2
LARGE = 1024  # rows
Root = Tensor | Spread


@dataclass(frozen=True)
class Whitening:
    """For each factor its own input modes, and the root of their moment with its inverse."""

    factors: tuple[Modes, ...]
    modes: tuple[Modes, ...]  # of each factor
    roots: tuple[Root | None, ...]  # (groups, n, n)
    inverses: tuple[Root | None, ...]

    def turned(self, kernel: Tensor, opens: Modes) -> Tensor:
        """Multiply `kernel`, with the modes `opens`, by every root."""
        for modes, root in zip(self.modes, self.roots, strict=True):
            if root is not None:
                kernel = _multiply(kernel, opens, modes, root.to(kernel))
        return kernel

    def seen(self, moment: Tensor, sizes: Sequence[int], patches: int) -> Tensor:
        """The moment `(groups, n, n)` of what a turned kernel sees, of mean square 1.

        `sizes` are those of the modes of the input channels and of space. It is shrunk towards one,
        the split moment, by how few `patches` it was measured on (Ledoit and Wolf 2004,
        doi:10.1016/S0047-259X(03)00096-4): what they do not tell apart is as the split has it.
        """
        inputs = inputs_of(self.factors)
        copies = {mode: f"{mode}'" for mode in inputs}
        names = (GROUP, *inputs, *copies.values())
        turned = moment.reshape(-1, *sizes, *sizes)
        for modes, inverse in zip(self.modes, self.inverses, strict=True):
            if inverse is not None:
                inverse = inverse.to(moment)
                turned = _multiply(turned, names, modes, inverse.mT)
                turned = _multiply(turned, names, tuple(copies[m] for m in modes), inverse.mH)
        whole = turned.reshape(moment.shape)
        trust = patches / (patches + moment.shape[-1])
        mean = whole.diagonal(dim1=1, dim2=2).real.mean(1)
        mean = mean.clamp_min(torch.finfo(moment.dtype).tiny)
        whole = whole * (trust / mean[:, None, None])
        whole.diagonal(dim1=1, dim2=2).add_(1 - trust)
        return whole

    def restored(self, factors: Sequence[Tensor]) -> list[Tensor]:
        """Multiply the factors of a turned kernel by the inverses: factors of the kernel."""
        return [
            factor if inverse is None else _multiply(factor, names, modes, inverse.to(factor))
            for factor, names, modes, inverse in zip(
                factors, self.factors, self.modes, self.inverses, strict=True
            )
        ]


def whiten(
    moment: Tensor,
    sizes: Sequence[int],
    factors: Sequence[Modes],
    constants: Collection[int] = (),
) -> Whitening:
    """Split a moment `(groups, in * k…, in * k…)` over factors that all have the mode `group`.

    `sizes` are those of the modes of the input channels and of space. A mode that several factors
    have is left as it is, and so are those of `constants`, factors by their indices.
    """
    inputs = inputs_of(factors)
    owned = [
        ()
        if index in constants
        else tuple(m for m in factor if m in inputs and sum(m in f for f in factors) == 1)
        for index, factor in enumerate(factors)
    ]
    apart = moment.reshape(-1, *sizes, *sizes)
    roots: list[Root | None] = []
    inverses: list[Root | None] = []
    for modes in owned:
        if modes:
            marginal = _marginal(apart, [inputs.index(mode) for mode in modes])
            root, inverse = square_root(marginal.to(work_dtype(moment)))
            roots.append(root)
            inverses.append(inverse)
        else:
            roots.append(None)
            inverses.append(None)
    return Whitening(tuple(map(tuple, factors)), tuple(owned), tuple(roots), tuple(inverses))


def inputs_of(factors: Sequence[Modes]) -> Modes:
    """The open modes of some factors that the input has."""
    return tuple(mode for mode in opens_of(map(tuple, factors)) if not mode.startswith(OUT))


def _marginal(moment: Tensor, kept: Sequence[int]) -> Tensor:
    """Trace `(groups, *sizes, *sizes)` over all modes but some: `(groups, n, n)`."""
    order = (moment.dim() - 1) // 2
    for mode in reversed(range(order)):
        if mode not in kept:
            moment = moment.diagonal(dim1=1 + mode, dim2=1 + mode + moment.dim() // 2).sum(-1)
    left = sorted(kept)
    order = len(left)
    places = [1 + left.index(mode) for mode in kept]
    moment = moment.permute(0, *places, *(place + order for place in places))
    return moment.flatten(1 + order).flatten(1, order)


def square_root(moment: Tensor) -> tuple[Root, Root]:
    """A root `R`, `Rᵀ R̄` the moment, ridged and scaled to mean square 1, and its inverse.

    Any root will do: they differ by a rotation of a factor's own modes. Cholesky's is the cheapest;
    the symmetric one of a moment of few directions, and where rounding made it indefinite. For a
    large one that takes a minute, and a higher ridge is tried first.
    """
    mean = moment.diagonal(dim1=1, dim2=2).real.mean(1).clamp_min(1e-300)[:, None]
    scaled = moment.conj() / mean[:, :, None]
    few = few_directions(scaled)
    if few is not None:
        return few.power(0.5, RIDGE), few.power(-0.5, RIDGE)
    diagonal = scaled.diagonal(dim1=1, dim2=2)
    plain = diagonal.clone()
    for ridge in RIDGES if scaled.shape[1] >= LARGE else RIDGES[:1]:
        diagonal.copy_(plain + ridge)
        upper, failed = torch.linalg.cholesky_ex(scaled, upper=True)
        if not bool(failed.any()):
            one = torch.eye(scaled.shape[1], dtype=moment.dtype, device=moment.device)
            return upper, torch.linalg.solve_triangular(upper, one.expand_as(upper), upper=True)
    diagonal.copy_(plain)
    values, vectors = torch.linalg.eigh(scaled)
    values = (values.clamp_min(0) + RIDGE).sqrt()
    root: Tensor = (vectors * values[:, None]) @ vectors.mH
    inverse: Tensor = (vectors / values[:, None]) @ vectors.mH
    return root, inverse


def _multiply(tensor: Tensor, names: Modes, modes: Modes, matrix: Root) -> Tensor:
    """Multiply some modes of `tensor`, whose first is `group`, by `(groups, n, n)`."""
    axes = [names.index(mode) for mode in modes]
    rest = [axis for axis in range(1, tensor.dim()) if axis not in axes]
    moved = tensor.permute(0, *axes, *rest)
    turned = (matrix @ moved.reshape(*matrix.shape[:2], -1)).reshape(moved.shape)
    back = [0] * tensor.dim()
    for place, axis in enumerate((0, *axes, *rest)):
        back[axis] = place
    return turned.permute(back)
