"""Sums over patches and the responses to them: all that least squares for a kernel asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ...algebra import add_square, mirrored
from ..moments import effective


@dataclass
class Response:
    """Sums over patches `p` of a compressed network and the original's responses `y` to them.

    `seen` is `Σ w p pᵀ`, `cross` is `Σ w y pᵀ`, `w` being what each patch counts, with a leading
    axis of groups; where the layer has a bias they are about the means, which the bias takes.
    They weigh `weight` together, and say as much as `count` equal ones.
    """

    seen: Tensor  # (groups, n, n)
    cross: Tensor  # (groups, out, n)
    mean: Tensor  # (groups, n)
    answer: Tensor  # (groups, out), the mean response
    count: int
    weight: float

    def halfway(self, kernel: Tensor, bias: Tensor | None) -> Response:
        """The same with responses halfway from what a kernel `(groups, out, n)` gives."""
        given = (kernel @ self.mean[:, :, None])[..., 0]
        if bias is not None:
            given = given + bias.reshape(given.shape)
        cross, answer = (self.cross + kernel @ self.seen) / 2, (self.answer + given) / 2
        return replace(self, cross=cross, answer=answer)

    def times(self, height: float) -> Response:
        """The same with each patch counting so many times as much."""
        return replace(self, seen=height * self.seen, cross=height * self.cross)

    def projected(self, features: Tensor) -> Response:
        """The same sums over linear maps `(groups, m, n)` of the patches."""
        return Response(
            features @ self.seen @ features.mT,
            self.cross @ features.mT,
            (features @ self.mean[:, :, None])[..., 0],
            self.answer,
            self.count,
            self.weight,
        )


class Sums:
    """Sums of squares and products over patches and responses, about the means where asked.

    They are taken about the first patches' means, which costs less rounding than about zero.
    """

    def __init__(self, centred: bool) -> None:
        self.centred = centred
        self.middle: list[Tensor] = []  # of patches and responses
        self.parts: list[Tensor] = []
        self.weight = self.square = 0.0

    def add(self, patches: Tensor, responses: Tensor, weights: Tensor) -> None:
        """Add `(groups, n, few)` and `(groups, out, few)`, each so many times."""
        if not self.middle:
            gain = 1.0 if self.centred else 0.0
            self.middle = [gain * rows.mean(2, keepdim=True) for rows in (patches, responses)]
        p, r = (
            rows - middle for rows, middle in zip((patches, responses), self.middle, strict=True)
        )
        root = weights.sqrt()
        often = p * root
        if not self.parts:
            sizes = (p.shape[1], p.shape[1]), (r.shape[1], p.shape[1]), (p.shape[1],), (r.shape[1],)
            self.parts = [p.new_zeros(len(p), *size) for size in sizes]
        add_square(self.parts[0], often)
        self.parts[1].baddbmm_(r * root, often.mT)
        self.parts[2] += p @ weights.to(p)
        self.parts[3] += r @ weights.to(r)
        self.weight += float(weights.sum())
        self.square += float(weights.square().sum())

    def response(self) -> Response:
        """What the sums say."""
        seen, cross, *sums = (one.double() for one in (mirrored(self.parts[0]), *self.parts[1:]))
        away, off = (one / self.weight for one in sums)
        mean, answer = (
            middle[..., 0].double() + one
            for middle, one in zip(self.middle, (away, off), strict=True)
        )
        if self.centred:
            seen = seen - self.weight * away[:, :, None] * away[:, None]
            cross = cross - self.weight * off[:, :, None] * away[:, None]
        count = effective(self.weight, self.square)
        return Response(seen, cross, mean, answer, count, self.weight)
