"""What a user may ask for as `rank`, and how it is spent on the bonds of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from numbers import Integral, Real
from typing import Any

from .budget import Losses, Purse
from .contraction import Modes
from .exact import Sizes, clip
from .network import opens_of


@dataclass(frozen=True)
class Error:
    """A rank request: the relative error `‖K − K̂‖_F / ‖K‖_F` of the kernel is at most `most`.

    Raises `ValueError` where `most` is no number from 0 to below 1.

    >>> kernel = torch.randn(16, 8, 3, 3)
    >>> near = FactorizedKernel.from_tensor(kernel, rank=Error(0.3), factorization="tucker")
    >>> relative_error(kernel, near.to_tensor()) <= 0.3
    True
    """

    most: float

    def __post_init__(self) -> None:
        if not _is_real(self.most) or not 0 <= self.most < 1:
            raise ValueError(f"Error(most={self.most!r}) must be a number from 0 to below 1")


@dataclass(frozen=True)
class Energy:
    """A rank request: at least the fraction `kept` of `‖K‖_F²` stays.

    Raises `ValueError` where `kept` is no number above 0 and at most 1.

    >>> kernel = torch.randn(16, 8, 3, 3)
    >>> near = FactorizedKernel.from_tensor(kernel, rank=Energy(0.9), factorization="tucker")
    >>> relative_error(kernel, near.to_tensor()) ** 2 <= 0.1
    True
    """

    kept: float

    def __post_init__(self) -> None:
        if not _is_real(self.kept) or not 0 < self.kept <= 1:
            raise ValueError(f"Energy(kept={self.kept!r}) must be a number above 0, at most 1")


@dataclass(frozen=True)
class Multiple:
    """A rank request: as `of`, a fraction or `"same"`, with bonds that are multiples of `base`.

    Bonds below `base`, or at their exact size, stay as they are; none is rounded up past the
    budget. Convolutions run best at multiples of the processor's vector width: 16 floats of
    AVX-512, and blocks of 8 or 16 channels in oneDNN. It is asked for, never done unasked, not by
    `auto` either: a rank is part of a checkpoint, which loads on any machine, run any way.

    Raises `ValueError` or `TypeError` for a `base` that is no int of at least 1, or another `of`.

    >>> FactorizedConv(64, 64, 3, order=2, rank=Multiple(of=0.3), factorization="tucker").rank
    (48, 16)
    """

    base: int = 16
    of: Any = "same"

    def __post_init__(self) -> None:
        if not isinstance(self.base, Integral) or isinstance(self.base, bool) or self.base < 1:
            raise ValueError(f"Multiple(base={self.base!r}) must be an int of at least 1")
        if self.of != "same" and (not isinstance(self.of, Real) or isinstance(self.of, Integral)):
            raise TypeError(f"Multiple({self.base}, of={self.of!r}): of must be 'same' or a float")


def spend(
    factors: Sequence[Modes],
    bonds: Modes,
    sizes: Mapping[str, int],
    rank: Any,
    lost: Losses | None = None,
    constants: Sequence[int] = (),
) -> tuple[int, ...]:
    """Turn a request into bond sizes, clipped to what is exact and never below 1.

    `sizes` are those of the open modes, and of bonds that are not in `bonds`, which stay so. An int
    gives every bond that size, a tuple each bond its own. `"same"` and a float are budgets, as a
    fraction of the kernel's numel. Where `lost` says what the bonds of each cut lose (`tails`),
    they are chosen together to keep most; else they grow together, in proportion to their exact
    sizes. Every bond is 1 where nothing fits. Factors whose indices are in `constants` cost
    nothing.

    Raises `ValueError` or `TypeError` where `rank` is none of these.
    """
    base, request = (rank.base, rank.of) if isinstance(rank, Multiple) else (1, rank)
    if isinstance(request, str) and request == "same":
        request = 1.0
    if isinstance(request, bool | str):
        raise TypeError(f"rank={rank!r} must be {WANTED}")
    if isinstance(request, Integral):
        asked = [check_size(request)] * len(bonds)
        return _values(clip(factors, bonds, sizes, dict(zip(bonds, asked, strict=True)), constants))
    if isinstance(request, Real):
        if not 0 < float(request) < float("inf"):
            raise ValueError(
                f"rank={rank!r} as a fraction of the parameters must be positive and finite"
            )
        numel = prod(sizes[mode] for mode in opens_of([tuple(sizes)]))
        budget = int(float(request) * numel * (1 + 1e-12))
        purse = Purse(factors, bonds, sizes, budget, tuple(constants))
        found = purse.in_proportion() if lost is None else purse.by_losses(lost)
        return _values(found if base == 1 else purse.rounded(found, base))
    if isinstance(request, Sequence):
        if len(request) != len(bonds):
            opens = {mode.partition(".")[0] for mode in opens_of([tuple(sizes)])}
            order = sum(mode[0] == "k" for mode in opens)
            raise ValueError(
                f"rank={tuple(request)!r} has {len(request)} numbers; a kernel of order {order} "
                f"takes {len(bonds)}, for ({', '.join(bonds)})"
            )
        asked = [check_size(one) for one in request]
        return _values(clip(factors, bonds, sizes, dict(zip(bonds, asked, strict=True)), constants))
    raise TypeError(f"rank={rank!r} must be {WANTED}")


def is_budget(rank: Any) -> bool:
    """Whether the request `rank` is a number of parameters rather than bond sizes.

    Raises nothing, whatever it is given.

    >>> is_budget(0.25), is_budget("same"), is_budget(8), is_budget((4, 4))
    (True, True, False, False)
    """
    if isinstance(rank, str | Multiple):
        return True
    return isinstance(rank, Real) and not isinstance(rank, Integral)


WANTED = (
    "'same', a float (fraction of the parameters), an int, a tuple of ints, "
    "Error, Energy or Multiple"
)


def check_size(value: Any) -> int:
    """One rank as an int; refuses what is no positive integer."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"rank={value!r} must be an int")
    if value < 1:
        raise ValueError(f"rank={value!r} must be at least 1")
    return int(value)


def _values(ranks: Sizes) -> tuple[int, ...]:
    return tuple(ranks.values())


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
