"""The norm in which a layer's kernel is decomposed: what it sees, and what its output is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ...algebra import (
    RIDGE,
    Spread,
    Whitening,
    few_directions,
    square_root,
    whiten,
    work_dtype,
)
from ...network import IN, OUT, Modes, spatial_modes

SKETCH = 128  # columns
LARGE = 1024  # rows
WORTH_RIDGE = 0.03  # of the mean diagonal: what a first-order gradient does not know


@dataclass(frozen=True)
class Seen:
    """The second moment of a layer's patches, whole or by its marginals.

    `whole` is `(groups, in * k…, in * k…)`, summed over patches that say as much as `count` equal
    ones and weigh `weight` together; `marginals` are `(groups, n, n)` for `in` and each spatial
    mode, where the whole one would be too large: its Kronecker product stands for it.
    """

    whole: Tensor | None = None
    marginals: tuple[Tensor, ...] = ()
    sketch: Tensor | None = None  # (groups, in * k…, few): to measure with only
    count: int | None = None
    weight: float = 0.0

    @property
    def height(self) -> float:
        """The mean square of what one patch has at each place; 0 where it is not known."""
        some = self.whole if self.whole is not None else next(iter(self.marginals), None)
        if some is None or not self.weight:
            return 0.0
        taps = 1 if self.whole is not None else prod(len(m[0]) for m in self.marginals[1:])
        return float(some.diagonal(dim1=1, dim2=2).mean()) / self.weight / taps

    def scaled(self, like: Tensor) -> Seen:
        """With mean diagonals of 1, on the device of a kernel and in the dtype of its work.

        A large one in float32, whose rounding is less than what samples leave open.
        """
        whole = None if self.whole is None else _scaled(self.whole, like, self.count, LARGE)
        marginals = tuple(_scaled(marginal, like) for marginal in self.marginals)
        return Seen(whole, marginals, count=self.count)

    def times(self, kernel: Tensor) -> Tensor:
        """A kernel `(groups, out, in, *k)` times the moment."""
        if self.whole is not None:
            seen = kernel.flatten(2).to(self.whole) @ self.whole  # which may be in float32
            return seen.to(kernel).reshape(kernel.shape)
        for axis, marginal in enumerate(self.marginals, start=2):
            moved = kernel.movedim(axis, 1)
            kernel = (marginal @ moved.flatten(2)).reshape(moved.shape).movedim(1, axis)
        return kernel

    def sketched(self, seed: int) -> Tensor | None:
        """A root of the moment `(groups, in * k…, rows)`, or a sketch of one; None of none."""
        moments = self.marginals if self.whole is None else (self.whole,)
        if not moments:
            return None
        roots = [root_of(one) for one in moments]
        sizes = [root.shape[1] for root in roots]
        few = min(prod(sizes), SKETCH)
        if few == prod(sizes):
            drawn = torch.eye(few)
        else:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randn(prod(sizes), few, generator=generator) / few**0.5
        groups = len(moments[0])
        found = drawn.to(moments[0]).reshape(1, *sizes, few).expand(groups, *sizes, few)
        for axis, root in enumerate(roots, start=1):
            moved = found.movedim(axis, 1)
            found = (root.mT @ moved.flatten(2)).reshape(moved.shape).movedim(1, axis)
        return found.reshape(len(found), -1, few)

    def whitenings(
        self, factors: Sequence[Modes], sizes: Sequence[int], constants: Sequence[int] = ()
    ) -> list[Whitening]:
        """What turns kernels, and factors back; `sizes` are those of `in` and the spatial modes."""
        if self.whole is not None:
            return [whiten(self.whole, sizes, factors, constants)]
        modes = (IN, *spatial_modes(len(sizes) - 1))
        pairs = zip(modes, self.marginals, strict=False)
        return [
            one for mode, moment in pairs if (one := _turning(mode, moment, factors, constants))
        ]


@dataclass(frozen=True)
class Norm:
    """`‖ΔK‖² = tr(G ΔK M ΔKᵀ)`, with `M` the moment of patches and `G` that of outputs.

    `worth`, `(groups, out, out)`, is `G`; None is the identity.
    """

    seen: Seen
    worth: Tensor | None = None

    @classmethod
    def of(cls, seen: Seen, worth: Tensor | None, kernel: Tensor) -> Norm:
        """Scale both to mean diagonal 1, and put them where the kernel is."""
        if worth is not None:
            worth = _scaled(worth, kernel)
            worth = worth + WORTH_RIDGE * torch.eye(worth.shape[1]).to(worth)
        return cls(seen.scaled(kernel), worth)

    def sketched(self, seed: int, like: Tensor) -> Norm:
        """The same to measure kernels `(groups, out, in, *k)` of the dtype of `like` with.

        `M ≈ S Sᵀ` with `S = Rᵀ Ω`, of a root `R` and normal random `Ω` (Johnson and Lindenstrauss
        1984): over the many outputs of a layer large enough for this, errors are within some
        hundredths of the exact ones, and all by nearly the same. `Ω` is the identity elsewhere.
        """
        sketch, worth = self.seen.sketched(seed), self.worth
        return Norm(
            Seen(sketch=None if sketch is None else sketch.to(like)),
            None if worth is None else worth.to(like),
        )

    def squared(self, gap: Tensor) -> tuple[float, float]:
        """The squared norm of a difference of kernels, `(groups, out, in, *k)`.

        And the same with `G` the identity: the energy of what it changes in the layer's output.
        """
        if self.seen.sketch is not None:
            rows = gap.flatten(2) @ self.seen.sketch
            return self.squares(rows, rows)
        return self.squares(self.seen.times(gap).flatten(2), gap.flatten(2))

    def squares(self, seen: Tensor, rows: Tensor) -> tuple[float, float]:
        """Both, where `rows` of a kernel and what is `seen` of them, `(groups, out, …)`, are known.

        They are the same of what a kernel makes of the sketch.
        """
        plain = max(0.0, float((seen * rows).sum()))
        if self.worth is None:
            return plain, plain
        weighted = float((self.worth * (seen @ rows.mT)).sum())
        return max(0.0, weighted), plain

    def whitenings(
        self, factors: Sequence[Modes], sizes: Sequence[int], constants: Sequence[int] = ()
    ) -> list[Whitening]:
        """What turns a kernel `(groups, out, in, *k)` so that its plain error is this norm's."""
        found = self.seen.whitenings(factors, sizes, constants)
        turning = None
        if self.worth is not None:
            turning = _turning(OUT, self.worth, factors, constants)
        return found if turning is None else [*found, turning]


def shrinkage(moment: Tensor, count: int) -> Tensor:
    """By how much, `(groups,)`, to draw a moment of few patches to a multiple of the identity.

    Of `(groups, n, n)`, by the oracle approximating shrinkage (Chen et al. 2010, arXiv 0907.4698):
    with few patches whole directions were not seen, and the kernel must not be free to change
    there. Where there are more patches than rows, by so much less.
    """
    size = moment.shape[1]
    trace = moment.diagonal(dim1=1, dim2=2).sum(1)
    square = torch.linalg.vector_norm(moment, dim=(1, 2)).square()
    above = (1 - 2 / size) * square + trace.square()
    below = (count + 1 - 2 / size) * (square - trace.square() / size)
    part: Tensor = (above / below.clamp_min(1e-300)).clamp(0, 1)
    return part * min(1.0, size / count)


def root_of(moment: Tensor) -> Tensor | Spread:
    """A root `R`, `Rᵀ R` the moment `(groups, n, n)`."""
    few = few_directions(moment)
    return upper_root(moment) if few is None else few.power(0.5)


def upper_root(moment: Tensor) -> Tensor:
    """The upper Cholesky factor of a moment `(groups, n, n)` of mean diagonal 1.

    Of one that is ridged where rounding made it indefinite.
    """
    ridge, found = RIDGE, moment
    while True:
        root, failed = torch.linalg.cholesky_ex(found, upper=True)
        if not bool(failed.any()):
            upper: Tensor = root
            return upper
        found = moment.clone()
        found.diagonal(dim1=1, dim2=2).add_(ridge)
        ridge *= 10


def _turning(
    mode: str, moment: Tensor, factors: Sequence[Modes], constants: Sequence[int]
) -> Whitening | None:
    """The whitening of one mode; None where several factors have it, or a constant one."""
    owners = [mode in factor for factor in factors]
    if sum(owners) != 1 or owners.index(True) in constants:
        return None
    root, inverse = square_root(moment)
    return Whitening(
        tuple(map(tuple, factors)),
        tuple((mode,) if owns else () for owns in owners),
        tuple(root if owns else None for owns in owners),
        tuple(inverse if owns else None for owns in owners),
    )


def _scaled(
    moment: Tensor, like: Tensor, count: int | None = None, large: int | None = None
) -> Tensor:
    """With a mean diagonal of 1; of few patches, so many, shrunk; from `large` rows in float32."""
    moment = moment.to(like.device)
    mean = moment.diagonal(dim1=1, dim2=2).mean(1)
    narrow = large is not None and moment.shape[1] >= large
    dtype = torch.float32 if narrow else work_dtype(like)
    if not float(mean.mean()) > 0:
        return torch.eye(moment.shape[1]).to(like.device, dtype).expand_as(moment)
    part = shrinkage(moment, count) if count else torch.zeros_like(mean)
    height = mean.mean()
    found = moment.to(dtype) * ((1 - part) / height).to(dtype)[:, None, None]
    found.diagonal(dim1=1, dim2=2).add_((part * mean / height).to(dtype)[:, None])
    return found
