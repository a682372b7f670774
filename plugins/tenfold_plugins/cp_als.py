"""Alternating least squares for CP kernels: two large matrix products a sweep.

The spatial modes are small, so one product of the kernel with the input's factor serves the
output's and all spatial factors, and one with the output's serves the input's. Kernels are
`(groups, out, in, *k)`, factors `(groups · starts, size, rank)` in the order out, in, k0, …: any
number of starts of each group go side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tenfold.algebra import Descent, accelerate, count_sweep

from .cp_starts import balanced

RIDGE = 1e-3  # relative to the square of the squared relative error
DAMPING = {torch.float32: 1e-6, torch.float64: 1e-10}  # of the mean diagonal, towards the present
LARGE = 2**20  # multiply-accumulates of a product from which float32 is worth it
SMALL = 2**25  # of a product up to which several starts are tried
ROUNDING = 2e-2  # the relative error below which float32 is too coarse
CHUNK = 2**18  # elements that are summed over the taps at a time
CONVOLVED = 2**25  # multiply-accumulates from which a convolution is the faster product


class Problem:
    """A kernel laid out for the two products; sweeps compute in `dtype`, in and out in its own."""

    def __init__(self, kernel: Tensor, dtype: torch.dtype) -> None:
        flat = kernel.flatten(3) if kernel.dim() > 3 else kernel.unsqueeze(3)
        self.sizes = kernel.shape[3:]
        self.dtype = dtype
        self.by_in = flat.permute(0, 3, 1, 2).to(dtype).contiguous()  # (groups, taps, out, in)
        self.by_out = flat.permute(0, 3, 2, 1).to(dtype).contiguous()
        self.squares = kernel.square().flatten(1).sum(1)  # (groups,)

    def descend(self, start: Descent | Sequence[Tensor], sweeps: int, tolerance: float) -> Descent:
        """Accelerated sweeps from `start`, from where it stands or from factors.

        A ridge, a small fraction of the misfit, keeps terms from growing against each other at next
        to no cost in error; it goes as the kernel is matched. The first sweep from factors has
        none: a start might be shrunk to nothing.
        """
        if not isinstance(start, Descent):
            start = Descent.of([factor.to(self.dtype) for factor in start])
        starts = len(start.errors) // len(self.squares)
        squares = self.squares.repeat_interleave(starts)
        total = squares.clamp_min(1e-300)
        misfit = squares * torch.where(start.errors.isfinite(), start.errors, 0.0).square()

        def sweep(factors: list[Tensor]) -> tuple[list[Tensor], Tensor]:
            nonlocal misfit
            found, misfit = self.sweep(factors, RIDGE * misfit * misfit / total)
            count_sweep(starts - 1)
            return found, (misfit / total).sqrt()

        return accelerate(sweep, start, sweeps, tolerance)

    def sweep(self, factors: Sequence[Tensor], ridge: Tensor) -> tuple[list[Tensor], Tensor]:
        """Solve for each factor in turn; return them, columns balanced, and each one's misfit."""
        a, b, *c = factors
        ridge = ridge.to(self.dtype)[:, None]
        grams = [factor.mT @ factor for factor in (b, *c)]
        partial = self._partial(self.by_in, b)
        a = _solve(_product(grams), self._weighted(partial, c), a, ridge)
        seen = self._seen(partial, a)
        grams = [a.mT @ a, *grams]
        for axis in range(len(c)):
            others = grams[: 2 + axis] + grams[3 + axis :]
            c[axis] = _solve(_product(others), self._spatial(seen, c, axis), c[axis], ridge)
            grams[2 + axis] = c[axis].mT @ c[axis]
        right = self._weighted(self._partial(self.by_out, a), c)
        gram = _product([grams[0], *grams[2:]])
        b = _solve(gram, right, b, ridge)
        squares = self.squares.repeat_interleave(len(b) // len(self.squares))
        fitted = (b.to(squares) * (b @ gram - 2 * right).to(squares)).sum((1, 2))
        return balanced([a, b, *c]), (squares + fitted).clamp_min(0)

    def correct(self, factors: Sequence[Tensor], errors: Tensor) -> list[Tensor]:
        """Shrink the terms, one factor after another, at no more than the relative `errors`.

        Each step minimises `Σ‖term‖²` over one factor on the ball of that error (Phan et al. 2020,
        arXiv 2008.05441): the solution of a ridge regression whose ridge is found by bisection.
        """
        limit = self.squares * errors**2
        factors = list(factors)
        for index in range(len(factors)):
            others = [factor for place, factor in enumerate(factors) if place != index]
            gram = _product([factor.mT @ factor for factor in others])
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
        a, b, *c = (factor.to(self.dtype) for factor in factors)
        if index == 1:
            found = self._weighted(self._partial(self.by_out, a), c)
        else:
            partial = self._partial(self.by_in, b)
            if index == 0:
                found = self._weighted(partial, c)
            else:
                found = self._spatial(self._seen(partial, a), c, index - 2)
        return found.to(self.squares)

    def _partial(self, kernel: Tensor, factor: Tensor) -> Tensor:
        """`(problems, taps, other channels, rank)`: the kernel times one channel factor."""
        groups, taps, rows, size = kernel.shape
        rank = factor.shape[-1]
        starts = len(factor) // groups
        if starts > 1:  # side by side: one product for all
            factor = factor.unflatten(0, (groups, starts)).transpose(1, 2).flatten(2)
        if _convolves(kernel, factor):
            image = kernel.permute(0, 3, 1, 2)  # channels last, as it lies in memory
            filters = factor[0].T.reshape(-1, size, 1, 1)
            product = F.conv2d(image, filters, dilation=2).permute(0, 2, 3, 1)
        else:
            product = kernel.flatten(1, 2) @ factor
        product = product.reshape(groups, taps, rows, starts, rank)
        return product.permute(0, 3, 1, 2, 4).reshape(-1, taps, rows, rank)

    def _weighted(self, partial: Tensor, spatial: Sequence[Tensor]) -> Tensor:
        """`(problems, channels, rank)`: a partial product times all spatial factors."""
        if not spatial:
            return partial[:, 0]
        weights = spatial[0]
        for factor in spatial[1:]:  # their Khatri-Rao product
            weights = (weights[:, :, None] * factor[:, None]).flatten(1, 2)
        sums = [
            (part * some.unsqueeze(2)).sum(1)
            for part, some in zip(_chunks(partial), _chunks(weights, partial), strict=True)
        ]
        return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)

    def _seen(self, partial: Tensor, factor: Tensor) -> Tensor:
        """`(problems, taps, rank)`: a partial product times the other channel factor."""
        factor = factor.unsqueeze(1)
        sums = [(part * factor).sum(2) for part in _chunks(partial)]
        return sums[0] if len(sums) == 1 else torch.cat(sums, 1)

    def _spatial(self, seen: Tensor, spatial: Sequence[Tensor], axis: int) -> Tensor:
        """Contract `(problems, taps, rank)` with every spatial factor but one."""
        whole = seen.reshape(len(seen), *self.sizes, seen.shape[-1])
        for place in reversed(range(len(spatial))):
            if place != axis:
                shape = [1] * (whole.dim() - 2)
                shape[place] = -1
                factor = spatial[place].reshape(len(seen), *shape, seen.shape[-1])
                whole = (whole * factor).sum(1 + place, keepdim=True)
        return whole.reshape(len(seen), self.sizes[axis], seen.shape[-1])


def _chunks(tensor: Tensor, like: Tensor | None = None) -> Sequence[Tensor]:
    """A tensor's taps, axis 1, a few at a time, so that what is summed stays in the cache.

    As many as of the tensor that it is `like`.
    """
    size = (tensor if like is None else like).numel()
    return tensor.split(max(1, CHUNK * tensor.shape[1] // size), 1) if size > CHUNK else [tensor]


def _convolves(kernel: Tensor, factor: Tensor) -> bool:
    """Whether a 1×1 convolution is the faster way to multiply.

    On x86 oneDNN is up to twice as fast as the BLAS at it; PyTorch asks it for one image if the
    convolution is dilated, which changes nothing of a 1×1.
    """
    return (
        kernel.device.type == "cpu"
        and kernel.dtype == torch.float32
        and len(kernel) == 1
        and kernel.numel() * factor.shape[-1] >= CONVOLVED
        and torch.backends.mkldnn.is_available()
    )


def work_dtype(kernel: Tensor, rank: int) -> torch.dtype:
    """What sweeps compute in, as long as the kernel is not matched closely."""
    return torch.float32 if kernel.numel() * rank > LARGE else kernel.dtype


def _product(grams: Sequence[Tensor]) -> Tensor:
    whole = grams[0]
    for gram in grams[1:]:
        whole = whole * gram
    return whole


def _solve(gram: Tensor, right: Tensor, now: Tensor, ridge: Tensor) -> Tensor:
    """The least squares solution of `x @ gram = right`, with a ridge and damped towards `now`."""
    scale = gram.diagonal(dim1=1, dim2=2).mean(1, keepdim=True) * DAMPING[gram.dtype]
    scale = scale.clamp_min_(torch.finfo(gram.dtype).tiny ** 0.5)
    damped = gram.clone()
    damped.diagonal(dim1=1, dim2=2).add_(scale + ridge)
    towards = torch.addcmul(right, scale[:, :, None], now)
    root, failed = torch.linalg.cholesky_ex(damped)
    solved: Tensor
    if bool(failed.any()):
        solved = towards @ torch.linalg.pinv(damped, hermitian=True)
    else:
        half = torch.linalg.solve_triangular(root.mT, towards, upper=True, left=False)
        solved = torch.linalg.solve_triangular(root, half, upper=False, left=False)
    return solved
