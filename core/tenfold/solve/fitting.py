"""From a rank request to a network and its factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..algebra import SecondMoment, by_group, in_real, on_one_thread
from ..network import (
    WANTED,
    Energy,
    Error,
    KernelNetwork,
    KernelSum,
    Multiple,
    check_size,
    with_group,
)
from ..plugin import Factorization, ask_hooks
from .decomposition import decompose, unfolded, whitening_of
from .error import relative_error

Fitted = tuple[KernelNetwork, Sequence[Tensor]]
HALVINGS = 8  # of the interval in which the least rank is looked for


def structure(
    factorization: Factorization,
    shape: tuple[int, ...],
    rank: Any,
    groups: int,
    kernel: Tensor | None,  # (groups, out, in, *k)
) -> KernelNetwork:
    """The network that a rank request buys for a kernel of shape `(out, in/groups, *k)`.

    A request that core does not know is put to the hook `tenfold_rank`, with the kernel if there
    is one. Raises `ValueError` or `TypeError` for a request that nobody knows.
    """
    asked, author = understood(factorization, shape, rank, groups, kernel)
    if isinstance(asked, Error | Energy):
        raise ValueError(f"rank={rank!r} needs a kernel to decompose: use from_conv or from_tensor")
    return bought(factorization, shape, (rank, asked, author), groups, kernel)


def bought(
    factorization: Factorization,
    shape: tuple[int, ...],
    request: tuple[Any, Any, str],  # as given, as understood, and by which hook
    groups: int,
    kernel: Tensor | None,
) -> KernelNetwork:
    """The network of a request; what a hook asks for in vain is told with that hook."""
    rank, asked, author = request
    try:
        return factorization.network(shape, asked, groups, kernel)
    except (ValueError, TypeError) as fault:
        if not author:
            raise
        raise ValueError(f"{author} answered rank={rank!r} with {asked!r}: {fault}") from fault


def understood(
    factorization: Factorization,
    shape: tuple[int, ...],
    rank: Any,
    groups: int,
    kernel: Tensor | None,
) -> tuple[Any, str]:
    """A rank request as core knows it, and the hook that made it so, if one did.

    A hook may answer with another's request, which is then put to the hooks in its turn.
    """
    if isinstance(rank, Tensor | np.ndarray):
        raise TypeError(f"rank={type(rank).__name__} must be {WANTED}: use .tolist() or .item()")
    if kernel is not None and kernel.device.type == "meta":
        kernel = None
    asked, author, before = rank, "", [rank]
    while not is_known(asked):
        seen = None if kernel is None else in_real(kernel).clone()  # it may be the user's own
        given = {"shape": shape, "factorization": factorization, "kernel": seen}
        answer, who = ask_hooks("tenfold_rank", request=asked, **given)
        if answer is None:
            said = f"{author} answered rank={rank!r} with {asked!r}, but " if author else ""
            raise ValueError(f"{said}rank={asked!r} is not understood: it must be {WANTED}")
        if any(answer is one or (isinstance(answer, str) and answer == one) for one in before):
            raise ValueError(f"{who} answered rank={asked!r} with {answer!r}, which was asked")
        asked, author = answer, who
        before.append(asked)
    if isinstance(asked, Sequence) and not isinstance(asked, str):
        asked = tuple(asked) if author else tuple(check_size(one) for one in asked)
    return asked, author


def is_known(rank: Any) -> bool:
    """Whether core understands a request by itself."""
    if isinstance(rank, str):
        return rank == "same"
    return isinstance(rank, Real | Multiple | Error | Energy | Sequence)


def fit(
    factorization: Factorization,
    kernel: Tensor,  # (out, in/groups, *k)
    rank: Any,
    groups: int,
    generator: torch.Generator | None = None,
    moment: SecondMoment | None = None,
) -> Fitted:
    """Choose the network that `rank` asks for, and its factors for `kernel`.

    With a `moment`, ranks and factors are those for the output's error. The kernel is brought to
    its groups, and to the dtype that is computed in, here and nowhere below.
    """
    if moment is not None and moment.matrix.is_complex() and not kernel.is_complex():
        raise ValueError(
            "moment= is of complex inputs and the kernel is real: measure it on what the layer sees"
        )
    largest = kernel.numel() if moment is None else max(kernel.numel(), moment.matrix.numel())
    shape = tuple(kernel.shape)
    with on_one_thread(largest):
        work = by_group(kernel, groups)
        weighed = work
        if moment is not None:
            weighed = turned(factorization, work, rank, moment)
        asked, author = understood(factorization, shape, rank, groups, weighed)
        if isinstance(asked, Error | Energy):
            most = asked.most if isinstance(asked, Error) else (1 - asked.kept) ** 0.5
            if kernel.device.type == "meta":
                raise ValueError(
                    f"rank={rank!r} needs the kernel's values; it is on the meta device"
                )
            search = Search(factorization, work, weighed, kernel.dtype, most, generator, moment)
            return search.least()
        seen = None if kernel.device.type == "meta" else weighed
        network = bought(factorization, shape, (rank, asked, author), groups, seen)
        return network, decompose(factorization, work, network, kernel.dtype, generator, moment)


def turned(factorization: Factorization, kernel: Tensor, rank: Any, moment: SecondMoment) -> Tensor:
    """The kernel, `(groups, out, in, *k)`, whose plain error is nearly the output's: as nearly as
    the moment is split over the factors."""
    groups = len(kernel)
    shape = tuple(kernel.flatten(0, 1).shape)
    sized = isinstance(rank, Sequence) and not isinstance(rank, str)
    network = factorization.network(shape, rank if sized else 1, groups)
    if isinstance(network, KernelSum):  # whose terms would turn it each in its own way
        return kernel
    named = with_group(network)
    whitening = whitening_of(moment, kernel, named)
    return whitening.turned(unfolded(kernel, named), named.open_modes).reshape(kernel.shape)


@dataclass(frozen=True)
class Search:
    """The smallest network whose kernel is within a relative error, found by decomposing."""

    factorization: Factorization
    kernel: Tensor  # (groups, out, in, *k)
    weighed: Tensor  # likewise: the kernel by which ranks are chosen
    dtype: torch.dtype
    most: float
    generator: torch.Generator | None
    moment: SecondMoment | None

    def least(self) -> Fitted:
        """Halve the budgets between nothing and exact, then lower one bond after another.

        Raises `ValueError` where even exact ranks do not reach the error in the kernel's dtype.
        """
        best = self.tried(10**9)
        if best is None:
            raise ValueError(
                f"rank=Error({self.most}) cannot be reached in {self.dtype}: "
                "ask for a larger error, or convert the layer to float64"
            )
        low, high = 0.0, min(1.0, best[0].numel / self.kernel.numel())
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            found = self.tried(middle)
            low, high = (low, middle) if found else (middle, high)
            best = smaller(found, best)
        lowered = True
        while lowered:
            lowered = False
            for bond in best[0].bonds:
                ranks = {b: best[0].sizes[b] - (b == bond) for b in best[0].bonds}
                found = self.tried(tuple(ranks.values())) if ranks[bond] else None
                if found and found[0].numel < best[0].numel:
                    best, lowered = found, True
        return best

    def tried(self, rank: Any) -> Fitted | None:
        """Decompose at `rank`; None where the error is too large."""
        kernel = self.kernel.flatten(0, 1)
        groups = len(self.kernel)
        network = self.factorization.network(tuple(kernel.shape), rank, groups, self.weighed)
        factors = decompose(
            self.factorization, self.kernel, network, self.dtype, self.generator, self.moment
        )
        measure = relative_error if self.moment is None else self.moment.output_error
        error = measure(kernel, network.to_tensor(factors))
        return (network, factors) if error <= self.most else None


def smaller(one: Fitted | None, other: Fitted) -> Fitted:
    return one if one is not None and one[0].numel <= other[0].numel else other
