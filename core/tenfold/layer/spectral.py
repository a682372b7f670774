"""Factors of a freshly drawn dense kernel: the spectral initialisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..algebra import least_norm, work_dtype
from ..network import KernelNetwork, parts_of, terms_of, with_group
from ..plugin import Factorization
from ..solve import fit

INITS = ("variance", "spectral")


def check_init(init: Any) -> str:
    """Refuse what is no initialisation, with a `ValueError`."""
    if not isinstance(init, str) or init not in INITS:
        raise ValueError(f"init={init!r} must be one of {', '.join(INITS)}")
    return init


@torch.no_grad()
def spectral(
    factorization: Factorization,
    network: KernelNetwork,
    like: Tensor,
    variance: float,
    generator: torch.Generator | None,
) -> list[Tensor]:
    """Factors, of the dtype and device of `like`, that are nearest to a uniform kernel of a
    `variance`, balanced (Khodak et al. 2021, arXiv 2105.01029, section 3.1)."""
    kernel = uniform(network.shape, like, (3 * variance) ** 0.5, generator)
    ranks = tuple(network.sizes[bond] for bond in network.bonds)
    _, factors = fit(factorization, kernel, ranks, network.groups, generator)
    return evened(network, factors)


def uniform(
    shape: Sequence[int], like: Tensor, bound: float, generator: torch.Generator | None
) -> Tensor:
    """A kernel as `nn.ConvNd` draws it; of a complex one the real and the imaginary part, each."""
    device = like.device if generator is None else generator.device
    kernel = torch.empty(tuple(shape), dtype=like.dtype, device=device)
    parts = torch.view_as_real(kernel) if kernel.is_complex() else kernel
    parts.uniform_(-bound, bound, generator=generator)
    return kernel.to(like.device)


def evened(network: KernelNetwork, factors: Sequence[Tensor]) -> list[Tensor]:
    """The same kernel with its bonds balanced: of two factors `A B`, `U√S` and `√S V`."""
    found: list[Tensor] = []
    for term, part in zip(terms_of(network), parts_of(network, factors), strict=True):
        grouped = with_group(term)
        wide = [
            one.to(work_dtype(one)).reshape(size)
            for one, size in zip(part, grouped.shapes, strict=True)
        ]
        even = least_norm(wide, grouped, grouped.constants)
        shaped = zip(even, part, term.shapes, strict=True)
        found += [one.to(like.dtype).reshape(size) for one, like, size in shaped]
    return found
