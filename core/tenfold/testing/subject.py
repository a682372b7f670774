"""What a law judges: a format, a way of running or a pair, and what it is tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from .. import FactorizedKernel, factorizations, implementations
from .example import Example
from .strategies import Request, kernel_shapes, kernels, requests, typical

TRIES = 200  # convolutions that are drawn of an order before it is said that none is taken


class NoneTakenError(BaseException):
    """What was to be judged takes nothing that is drawn.

    No `Exception`: Hypothesis would look for a smaller example.
    """


@dataclass(frozen=True)
class Subject:
    """What is judged: a format, a way of running, or a pair; names, classes or instances.

    `drawn` are the convolutions to try, where they are not those of every kind. `foreign` lets
    other packages' formats and implementations take part.
    """

    factorization: Any  # None for every one that the implementation takes
    implementation: Any  # None for every one that takes the format
    orders: Sequence[int]
    drawn: st.SearchStrategy[Request] | None = None
    foreign: bool = False

    def __str__(self) -> str:
        given = {"factorization": self.factorization, "implementation": self.implementation}
        return ", ".join(
            f"{kind}={getattr(asked, '__name__', None) or repr(asked)}"
            for kind, asked in given.items()
            if asked is not None
        )

    def of(self, order: int) -> Subject:
        """The same, tried on one order."""
        return replace(self, orders=(order,))

    def draw(self, example: Example) -> tuple[Request, list[dict[str, Any]]]:
        """Draw a convolution, and list the pairs to run it with, as keywords.

        Where the implementation does not take it, Hypothesis is told to draw another.
        """
        return self._taken(example, self._requests(requests(self.orders)))

    def draw_one(self, example: Example) -> tuple[Request, dict[str, Any]]:
        """Draw a convolution of a usual kind, and one pair to run it with, as keywords."""
        request, pairs = self._taken(example, self._requests(typical(self.orders)))
        return request, example.draw("run with", st.sampled_from(pairs))

    def draw_shape(self, example: Example, largest: int = 6) -> tuple[int, ...]:
        """Draw the shape of a kernel, `(out, in/groups, *k)`."""
        if self.drawn is None:
            return example.draw("shape", kernel_shapes(self.orders, largest))
        return example.draw("the convolution", self._requests(self.drawn)).shape

    def draw_kernel(self, example: Example, groups: int = 1) -> Tensor:
        """Draw a kernel `(groups * out, in, *k)`, normal in float64."""
        if self.drawn is None:
            return example.draw("kernel", kernels(self.orders, groups=groups))
        out, *rest = self.draw_shape(example)
        generator = torch.Generator().manual_seed(example.draw("seed", st.integers(0, 2**16)))
        return torch.randn(groups * out, *rest, generator=generator, dtype=torch.float64)

    def decomposed(
        self, kernel: Tensor, rank: Any, groups: int = 1, **more: Any
    ) -> FactorizedKernel:
        """The kernel in the format, from the same random state each time."""
        generator = torch.Generator().manual_seed(0)
        return FactorizedKernel.from_tensor(
            kernel,
            rank=rank,
            factorization=self.factorization,
            groups=groups,
            generator=generator,
            **more,
        )

    def _requests(self, strategy: st.SearchStrategy[Request]) -> st.SearchStrategy[Request]:
        if self.drawn is None:
            return strategy
        return self.drawn.filter(lambda request: request.order in self.orders)

    def _taken(
        self, example: Example, strategy: st.SearchStrategy[Request]
    ) -> tuple[Request, list[dict[str, Any]]]:
        request = example.draw("the convolution", strategy)
        if self.factorization is None:
            names = factorizations.names() if self.foreign else factorizations.shipped()
            formats = [example.draw("factorization", st.sampled_from(names))]
        else:
            formats = [self.factorization]
        if self.implementation is None:
            ways = implementations.names() if self.foreign else implementations.shipped()
        else:
            ways = [self.implementation]
        pairs = [{"factorization": one, "implementation": way} for one in formats for way in ways]
        taken = [pair for pair in pairs if not refused(request, pair)]
        example.count(bool(taken))
        if example.refusals >= TRIES:
            raise NoneTakenError
        assume(taken)
        return request, taken


def refused(request: Request, pair: dict[str, Any]) -> bool:
    """Whether the implementation says that it cannot run the request in this format."""
    try:
        request.layer(**pair)
    except ValueError as refusal:
        return "cannot run" in str(refusal)
    return False
