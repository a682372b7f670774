"""One way in for every solver: a kernel and a request go in, factors and what was achieved come
out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..algebra import counting_sweeps
from ..arguments import check_tensor
from ..network import Contraction, KernelNetwork, parts_of, plan_contraction, terms_of
from ..plugin import Factorization
from ..solve import relative_error
from .kernel import FactorizedKernel
from .moment import Moment


@dataclass(frozen=True, repr=False)
class Decomposition:
    """A decomposed kernel, and how well it went.

    `error` is the kernel's relative error and `output_error` the output's, where a moment says what
    the layer sees. `sweeps` are those of all starts and of all ranks that were tried; 0 for a plain
    SVD. `sensitivity` is the squared relative change of the kernel for each squared relative change
    of the factors' elements: 1 to a few for a sound decomposition, large where terms cancel each
    other, which makes fine-tuning unstable. Made by `decompose`.

    >>> found = decompose(torch.randn(16, 8, 3, 3), rank=4, factorization="tucker", sweeps=0)
    >>> isinstance(found, Decomposition), found.rank, found.kernel.shape, found.output_error
    (True, (4, 4), (16, 8, 3, 3), None)
    """

    kernel: FactorizedKernel
    error: float
    output_error: float | None
    sweeps: int
    sensitivity: float

    @property
    def rank(self) -> int | tuple[int, ...]:
        """The realised rank."""
        return self.kernel.rank

    def __repr__(self) -> str:
        kernel, numbers = self.kernel, [f"error {self.error:.4g}"]
        if self.output_error is not None:
            numbers.append(f"output error {self.output_error:.4g}")
        numbers += [f"sensitivity {self.sensitivity:.3g}", f"{self.sweeps} sweeps"]
        part = f"{kernel.numel()} of {prod(kernel.shape)} parameters"
        return (
            f"<{type(self).__name__} of {tuple(kernel.shape)}: {kernel.factorization}, "
            f"rank {self.rank}, {part}, {', '.join(numbers)}>"
        )


def decompose(
    tensor: Tensor,
    *,
    rank: Any = "same",
    factorization: str | Factorization | type[Factorization] = "cp",
    groups: int = 1,
    moment: Moment | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Decomposition:
    """Decompose `tensor`, a kernel `(out, in/groups, *k)`, and say what was achieved.

    `options` are the format's own, as `sweeps=200`; the other arguments (`rank`, `factorization`,
    `groups`, `moment`, `generator`) are those of `FactorizedKernel.from_tensor`, and so are the
    errors raised; `ValueError` for a tensor without values. The sensitivity is that of Phan et
    al. 2020, arXiv 2008.05441, for any network, in relative changes.

    >>> found = decompose(torch.randn(16, 8, 3, 3), rank=0.5, factorization="tucker", sweeps=3)
    >>> found.kernel.numel() <= 0.5 * 16 * 8 * 9, found.sweeps <= 3, found.error < 1
    (True, True, True)
    """
    if check_tensor("tensor", tensor).is_meta:
        raise ValueError("tensor on meta has no values to decompose: use FactorizedKernel.new")
    with counting_sweeps() as count:
        kernel = FactorizedKernel.from_tensor(
            tensor,
            rank=rank,
            factorization=factorization,
            groups=groups,
            moment=moment,
            generator=generator,
            decomposition_kwargs=options,
        )
    whole = kernel.to_tensor().detach()
    return Decomposition(
        kernel=kernel,
        error=relative_error(tensor, whole),
        output_error=None if moment is None else moment.output_error(tensor, whole),
        sweeps=count[0],
        sensitivity=sensitivity(kernel.network, tuple(kernel.factors)),
    )


@torch.no_grad()
def sensitivity(network: KernelNetwork, factors: Sequence[Tensor]) -> float:
    """How much a kernel changes with its factors' elements; see `Decomposition`.

    Noise of variance `s²` in the elements of one factor changes the kernel by `s² ‖J‖²`, with `J`
    the kernel's derivative by that factor, whose square is the trace of the factor's least squares
    matrix times its free size. Zero kernels have sensitivity 0.
    """
    dtype = torch.promote_types(factors[0].dtype, torch.float64)
    wide = [factor.detach().to(dtype) for factor in factors]
    norm = float(network.to_tensor(wide).abs().square().sum())
    terms = zip(terms_of(network), parts_of(network, wide), strict=True)
    total = sum(spread(term, part) for term, part in terms)
    return total / norm if norm else 0.0


def spread(network: KernelNetwork, wide: Sequence[Tensor]) -> float:
    """How much a kernel's square grows with its factors' elements."""
    total = 0.0
    for index in network.free:
        mine, factor = network.factors[index], wide[index]
        theirs = [modes for other, modes in enumerate(network.factors) if other != index]
        around = set().union(*theirs)
        free = prod(network.sizes[mode] for mode in mine if mode not in around)
        others = [one for other, one in enumerate(wide) if other != index]
        trace = float(_trace(network, index)([*others, *(one.conj() for one in others)]).real)
        total += free * trace * float(factor.abs().square().mean())
    return total


def _trace(network: KernelNetwork, index: int) -> Contraction:
    """The trace of the least squares matrix of one factor, contracted without making the matrix."""
    mine = network.factors[index]
    theirs = [modes for other, modes in enumerate(network.factors) if other != index]
    inner = {bond: f"{bond}'" for bond in network.bonds if bond not in mine}
    copies = [tuple(inner.get(mode, mode) for mode in modes) for modes in theirs]
    sizes = {**network.sizes, **{inner[bond]: network.sizes[bond] for bond in inner}}
    return plan_contraction([*theirs, *copies], (), sizes)
