"""Linear layers whose matrix is a network of small factors, over parts of both its sides."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import nn

from ..arguments import check_kind
from ..plugin import Factorization, Implementation, factorizations
from ..solve import with_options
from . import plain
from .conv import FactorizedConv

Features = int | Sequence[int]


class FactorizedLinear(FactorizedConv):
    """A linear layer, `(…, in)` to `(…, out)`, whose matrix is a tensor network and never made.

    It is a `FactorizedConv` of order 0, with all that one has. In the formats `tt_matrix`,
    `cp_matrix`, `tucker_matrix` and `kronecker` both sides are products of several numbers, near
    each other; a tuple of features says which. In the others the matrix has low rank.

    Args:
        in_features, out_features: ints, or the numbers that they are the products of.
        rank, factorization, implementation, generator: as `FactorizedConv`.

    Raises `ValueError` or `TypeError` for a bad argument. Novikov et al. 2015, arXiv 1509.06569.

    >>> layer = FactorizedLinear((4, 8, 8), (8, 8, 4), rank=4)
    >>> layer(torch.randn(2, 256)).shape, layer.weight.numel()
    (torch.Size([2, 256]), 1280)
    >>> FactorizedLinear.from_linear(nn.Linear(64, 10), rank=3)
    FactorizedLinear(64, 10, rank=(3, 3), factorization='tt_matrix')
    """

    def __init__(
        self,
        in_features: Features,
        out_features: Features,
        bias: bool = True,
        *,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "tt_matrix",
        implementation: str | Implementation | type[Implementation] = "factorized",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        ins, outs = whole("in_features", in_features), whole("out_features", out_features)
        super().__init__(
            ins,
            outs,
            (),
            bias=bias,
            rank=rank,
            factorization=split(factorization, in_features, out_features),
            implementation=implementation,
            device=device,
            dtype=dtype,
            generator=generator,
        )

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        *,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "tt_matrix",
        **options: Any,
    ) -> FactorizedLinear:
        """Replace an `nn.Linear`, which stays untouched; see `FactorizedConv.from_conv`.

        `options` are the arguments of that. Raises `TypeError` for another module, and `ValueError`
        or `TypeError` for a bad argument.
        """
        check_kind("linear", linear, nn.Linear)
        made = cls.from_conv(linear, rank=rank, factorization=factorization, **options)
        assert isinstance(made, cls)
        return made

    def __repr__(self) -> str:
        return plain.spell(self, "FactorizedLinear")


def whole(name: str, features: Features) -> int:
    """The number of features; a `TypeError` or `ValueError` for what is none."""
    if not isinstance(features, Sequence):
        return features
    if isinstance(features, str) or not all(isinstance(n, int) and n >= 1 for n in features):
        raise ValueError(f"{name}={features!r} must be an int, or a tuple of ints of at least 1")
    return prod(features)


def split(
    factorization: str | Factorization | type[Factorization], ins: Features, outs: Features
) -> Any:
    """The format with the parts that were asked for, where they were."""
    if not isinstance(ins, Sequence) and not isinstance(outs, Sequence):
        return factorization
    sides = {"ins": ins, "outs": outs}
    given = {name: tuple(one) for name, one in sides.items() if isinstance(one, Sequence)}
    parts = {len(one) for one in given.values()}
    if len(parts) > 1:
        raise ValueError(
            f"in_features={ins!r}, out_features={outs!r} must have as many parts: fill up with ones"
        )
    return with_options(
        factorizations.choose(factorization).plugin, {**given, "parts": parts.pop()}
    )
