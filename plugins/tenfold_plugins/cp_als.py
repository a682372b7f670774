"""Alternating least squares for CP kernels: two large matrix products a sweep.

The spatial modes are small, so one product of the kernel with the input's factor serves the
output's and all spatial factors, and one with the output's serves the input's. Kernels are
`(groups, out, in, *k)`, factors `(groups, size, rank)` in the order out, in, k0, ….
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from tenfold import accelerate

RIDGE = 1e-3  # relative to the square of the squared relative error
DAMPING = 1e-10  # towards the present factor, relative to the mean diagonal
LARGE = 2**25  # multiply-accumulates of a product from which float32 is worth it
ROUNDING = 1e-2  # the relative error below which float32 products are too coarse


class Problem:
    """A kernel laid out for the two products, of `dtype`; all else is in the kernel's own."""

    def __init__(self, kernel: Tensor, rank: int, dtype: torch.dtype | None = None) -> None:
        flat = kernel.flatten(3) if kernel.dim() > 3 else kernel.unsqueeze(3)
        self.sizes = kernel.shape[3:]
        self.dtype = dtype or (torch.float32 if kernel.numel() * rank > LARGE else kernel.dtype)
        self.by_in = flat.permute(0, 3, 1, 2).flatten(1, 2).to(self.dtype).contiguous()
        self.by_out = flat.permute(0, 3, 2, 1).flatten(1, 2).to(self.dtype).contiguous()
        self.squares = kernel.square().flatten(1).sum(1)  # (groups,)

    def descend(
        self, start: list[Tensor], sweeps: int, tolerance: float, error: float = 0.0
    ) -> tuple[list[Tensor], float, int]:
        """Accelerated sweeps from `start`: the factors, their relative error and the sweeps made.

        A ridge, a small fraction of the misfit, keeps terms from growing against each other at next
        to no cost in error; it goes as the kernel is matched. The first sweep's is by the `error`
        of the start, where that is known; without, a start might be shrunk to nothing.
        """
        total = self.squares.clamp_min(1e-300)
        misfit = self.squares * error**2

        def sweep(factors: list[Tensor]) -> tuple[list[Tensor], float]:
            nonlocal misfit
            found, misfit = self.sweep(factors, RIDGE * misfit * misfit / total)
            return found, float((misfit.sum() / total.sum()).sqrt())

        return accelerate(sweep, start, sweeps, tolerance)

    def sweep(self, factors: list[Tensor], ridge: Tensor) -> tuple[list[Tensor], Tensor]:
        """Solve for each factor in turn; return them, columns balanced, and each group's misfit."""
        a, b, *c = factors
        c = list(c)
        partial = self._partial(self.by_in, b)
        a = _solve(_gram([b, *c]), self._weighted(partial, c), a, ridge)
        seen = self._seen(partial, a)
        for axis in range(len(c)):
            others = [one for place, one in enumerate(c) if place != axis]
            right = self._spatial(seen, c, axis)
            c[axis] = _solve(_gram([a, b, *others]), right, c[axis], ridge)
        right = self._weighted(self._partial(self.by_out, a), c)
        gram = _gram([a, *c])
        b = _solve(gram, right, b, ridge)
        misfit = self.squares + (b * (b @ gram - 2 * right)).sum((1, 2))
        return balanced([a, b, *c]), misfit.clamp_min(0)

    def correct(self, factors: list[Tensor], error: float) -> list[Tensor]:
        """Shrink the terms, one factor after another, at no more than the relative `error`.

        Each step minimises `Σ‖term‖²` over one factor on the ball of that error (Phan et al. 2020,
        arXiv 2008.05441): the solution of a ridge regression whose ridge is found by bisection.
        """
        limit = self.squares * error**2
        factors = list(factors)
        for index in (0, 1, *range(2, len(factors))):
            others = [factor for place, factor in enumerate(factors) if place != index]
            gram = _gram(others)
            weight = gram.diagonal(dim1=1, dim2=2).clamp_min(1e-300).rsqrt()  # 1 / ‖other‖
            values, vectors = torch.linalg.eigh(weight[:, :, None] * gram * weight[:, None])
            right = (self.right(factors, index) * weight[:, None]) @ vectors
            energy, values = right.square().sum(1), values.clamp_min(0)
            low, high = torch.full_like(limit, -40.0), torch.full_like(limit, 5.0)
            for _ in range(50):
                middle = (low + high) / 2
                damped = values + middle.exp()[:, None]
                misfit = self.squares + (energy * (values / damped - 2) / damped).sum(1)
                low, high = (
                    torch.where(misfit <= limit, middle, low),
                    torch.where(misfit <= limit, high, middle),
                )
            damped = values + low.exp()[:, None]
            factors[index] = (right / damped[:, None]) @ vectors.mT * weight[:, None]
        return balanced(factors)

    def right(self, factors: Sequence[Tensor], index: int) -> Tensor:
        """The kernel contracted with every factor but one: `(groups, size, rank)`."""
        a, b, *c = factors
        if index == 1:
            return self._weighted(self._partial(self.by_out, a), c)
        partial = self._partial(self.by_in, b)
        if index == 0:
            return self._weighted(partial, c)
        seen = self._seen(partial, a)
        return self._spatial(seen, c, index - 2)

    def _partial(self, kernel: Tensor, factor: Tensor) -> Tensor:
        """`(groups, spatial, other channels, rank)`: the kernel times one channel factor."""
        product = kernel @ factor.to(self.dtype)
        return product.reshape(len(product), prod(self.sizes), -1, factor.shape[-1])

    def _weighted(self, partial: Tensor, spatial: Sequence[Tensor]) -> Tensor:
        rank = partial.shape[-1]
        weights = partial.new_ones(len(partial), 1, rank)
        for factor in spatial:  # their Khatri-Rao product
            weights = (weights[:, :, None] * factor.to(self.dtype)[:, None]).flatten(1, 2)
        total = partial[:, 0] * weights[:, :1]
        for place in range(1, partial.shape[1]):  # in place: einsum would copy it all
            total.addcmul_(partial[:, place], weights[:, place, None])
        return total.to(self.squares.dtype)

    def _seen(self, partial: Tensor, factor: Tensor) -> Tensor:
        """`(groups, spatial, rank)`: a partial product times the other channel factor."""
        narrow = factor.to(self.dtype)
        places = range(partial.shape[1])
        return torch.stack([(partial[:, p] * narrow).sum(1) for p in places], 1).to(factor.dtype)

    def _spatial(self, seen: Tensor, spatial: Sequence[Tensor], axis: int) -> Tensor:
        """Contract `(groups, spatial, rank)` with every spatial factor but one."""
        whole = seen.reshape(len(seen), *self.sizes, seen.shape[-1])
        for place in reversed(range(len(spatial))):
            if place != axis:
                shape = [1] * (whole.dim() - 2)
                shape[place] = -1
                factor = spatial[place].reshape(len(seen), *shape, seen.shape[-1])
                whole = (whole * factor).sum(1 + place, keepdim=True)
        return whole.reshape(len(seen), self.sizes[axis], seen.shape[-1])


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


def random_terms(kernel: Tensor, rank: int, generator: torch.Generator | None) -> list[Tensor]:
    """Normal random factors; those of a zero kernel are of a zero kernel too."""
    device = generator.device if generator is not None else "cpu"
    first, *rest = (
        torch.randn(
            len(kernel), size, rank, generator=generator, dtype=torch.float64, device=device
        ).to(kernel)
        for size in kernel.shape[1:]
    )
    alive = kernel.flatten(1).any(1)
    return [first * alive[:, None, None], *rest]


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
    """Give the factors' columns equal norms, term by term."""
    norms = torch.stack([factor.norm(dim=1, keepdim=True) for factor in factors])
    alive = norms.prod(0) > 0
    target = norms.clamp_min(torch.finfo(norms.dtype).tiny).log().mean(0).exp()
    gains = torch.where(alive, target / torch.where(alive, norms, 1.0), 1.0)
    return [factor * gain for factor, gain in zip(factors, gains, strict=True)]


def _gram(factors: Sequence[Tensor]) -> Tensor:
    gram = factors[0].mT @ factors[0]
    for factor in factors[1:]:
        gram = gram * (factor.mT @ factor)
    return gram


def _solve(gram: Tensor, right: Tensor, now: Tensor, ridge: Tensor) -> Tensor:
    """The least squares solution of `x @ gram = right`, with a ridge and damped towards `now`."""
    scale = DAMPING * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-150)[:, None, None]
    unit = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    damped = gram + (scale + ridge[:, None, None]) * unit
    towards = (right + scale * now).mT
    root, info = torch.linalg.cholesky_ex(damped)
    if bool((info > 0).any()):
        solved: Tensor = torch.linalg.solve(damped, towards).mT
        return solved
    return torch.cholesky_solve(towards, root).mT
