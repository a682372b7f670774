"""Between changes of a kernel and of its factors: the chain rule, and back by least squares.

`J` is the derivative of a kernel by its factors. Everything is contracted from the factors; what is
kernel-shaped, `(out, in/groups, *k)`, is made, as a decomposition of it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..network import KernelNetwork, parts_of, plan_contraction, terms_of

STEPS = 40  # of either iteration: what is carried is an average of noise
TOLERANCE = 1e-6


class Tangent(NamedTuple):
    """The derivative of a kernel at some factors."""

    network: KernelNetwork
    factors: Sequence[Tensor]

    def down(self, gradient: Tensor) -> list[Tensor]:
        """`Jᴴ G`: the gradients of the free factors, in order, for that of the kernel."""
        found = []
        for term, part in self._terms():
            given = gradient.reshape([term.sizes[mode] for mode in term.open_modes])
            for index in term.free:
                modes = [*term.factors[:index], *term.factors[index + 1 :]]
                others = [one.conj() for at, one in enumerate(part) if at != index]
                plan = plan_contraction([term.open_modes, *modes], term.factors[index], term.sizes)
                found.append(plan([given, *others]))
        return found

    def up(self, moves: Sequence[Tensor]) -> Tensor:
        """`J m`: how the kernel moves when the free factors do."""
        pending = iter(moves)
        made = []
        for term, part in self._terms():
            for index in term.free:
                moved = [next(pending) if at == index else one for at, one in enumerate(part)]
                made.append(term.to_tensor(moved))
        return torch.stack(made).sum(0)

    def squared(self) -> Tangent:
        """That of the elements' squares, by which variances go down, where elements are apart."""
        return Tangent(self.network, [one.abs().square() for one in self.factors])

    def _terms(self) -> list[tuple[KernelNetwork, list[Tensor]]]:
        parts = parts_of(self.network, self.factors)
        return list(zip(terms_of(self.network), parts, strict=True))


def explained(tangent: Tangent, slopes: Sequence[Tensor]) -> Tensor:
    """The least gradient of the kernel whose chain rule is nearest to the factors' `slopes`.

    Conjugate gradients on the least squares, from zero (Hestenes and Stiefel 1952,
    doi:10.6028/jres.049.044).
    """
    left = list(slopes)
    found = torch.zeros_like(tangent.up(left))
    steepest = tangent.up(left)
    along = steepest
    size = first = float(steepest.abs().square().sum())
    for _ in range(STEPS):
        if size <= TOLERANCE**2 * first:
            break
        seen = tangent.down(along)
        length = size / sum(float(one.abs().square().sum()) for one in seen)
        found = found + length * along
        left = [one - length * other for one, other in zip(left, seen, strict=True)]
        steepest = tangent.up(left)
        before, size = size, float(steepest.abs().square().sum())
        along = steepest + size / before * along
    return found


def spread(tangent: Tangent, variances: Sequence[Tensor]) -> Tensor:
    """Positive variances of the kernel's elements that come near the factors' `variances`.

    Of a squared tangent, by multiplying (Richardson 1972, doi:10.1364/JOSA.62.000055).
    """
    ones = [torch.ones_like(one) for one in variances]
    weight = tangent.up(ones)
    tiny = torch.finfo(weight.dtype).tiny
    seen = tangent.down(torch.ones_like(weight))
    level = sum(float(one.sum()) for one in variances) / max(
        sum(float(one.sum()) for one in seen), tiny
    )
    found = torch.full_like(weight, level)
    for _ in range(STEPS):
        seen = tangent.down(found)
        ratios = [v / one.clamp_min(tiny) for v, one in zip(variances, seen, strict=True)]
        found = found * tangent.up(ratios) / weight.clamp_min(tiny)
    return found
