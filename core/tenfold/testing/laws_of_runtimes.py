"""The laws of runtimes: what runs there gives what the network gives, whenever it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from hypothesis import assume
from torch import Tensor, nn

from .. import relative_error, runtimes
from ..plugin import Ready
from .example import Example
from .strategies import requests
from .subject import TRIES, NoneTakenError

CLOSE = 1e-3  # of the output's size: a device may compute in fewer digits


@dataclass(frozen=True)
class RuntimeSubject:
    """A runtime, by name, class or instance."""

    runtime: Any
    orders: Sequence[int]

    def __str__(self) -> str:
        return f"runtime={getattr(self.runtime, '__name__', None) or repr(self.runtime)}"

    def of(self, order: int) -> RuntimeSubject:
        """The same, tried on one order."""
        return replace(self, orders=(order,))

    def draw(self, example: Example) -> tuple[Pair, Tensor, Ready]:
        """Draw a network that it takes, with an input, and have it made ready."""
        request = example.draw("the convolution", requests(self.orders, transposed=False))
        x = request.input(torch.float32)
        assume(x.numel())
        pair = Pair(*(Network(request.layer(dtype=torch.float32)).eval() for _ in range(2)))
        try:
            run = runtimes.choose(self.runtime).plugin.prepare(pair.given, (x.clone(),))
        except ValueError as refusal:
            example.count(taken=False)
            if example.refusals > TRIES:
                raise NoneTakenError from refusal
            assume(False)
            raise
        example.count(taken=True)
        return pair, x, run


class Pair(NamedTuple):
    """A network that was given away, and one of the same numbers that was not."""

    given: nn.Module
    kept: nn.Module


class Network(nn.Module):
    """A layer and its positive part, both given."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.layer(x)
        return y, y.relu()


@torch.no_grad()
def it_gives_what_the_network_gives(subject: RuntimeSubject, example: Example) -> None:
    """Every output is the network's, for the numbers of the example and for others."""
    pair, x, run = subject.draw(example)
    for given in (x, 0.5 - x):
        wanted, found = pair.kept(given), run(given.clone())
        assert len(found) == len(wanted), f"gave {len(found)} outputs of {len(wanted)}"
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            size, got = tuple(one.shape), tuple(other.shape)
            assert got == size, f"output {index} has shape {got}, the network's {size}"
            error = relative_error(one, torch.as_tensor(other).to(one)) if one.norm() else 0.0
            assert error < CLOSE, f"output {index} is off by {error:.1e} of its size"


@torch.no_grad()
def it_repeats_itself(subject: RuntimeSubject, example: Example) -> None:
    """The same input gives the same numbers, and what was given stays, whatever is run next."""
    _, x, run = subject.draw(example)
    first = run(x.clone())
    kept = [torch.as_tensor(one).clone() for one in first]
    run(1 + x)
    for index, (one, held) in enumerate(zip(kept, first, strict=True)):
        assert torch.equal(one, torch.as_tensor(held)), f"output {index} is written over later"
    for index, (one, other) in enumerate(zip(kept, run(x.clone()), strict=True)):
        assert torch.allclose(one, torch.as_tensor(other), CLOSE, 1e-6), f"output {index} differs"


@torch.no_grad()
def it_leaves_the_network_and_its_input_alone(subject: RuntimeSubject, example: Example) -> None:
    """Parameters, mode and input are the same after it was made ready and run."""
    pair, x, run = subject.draw(example)
    before = x.clone()
    run(x)
    assert torch.equal(x, before), "the input was written to: work on x.clone()"
    assert not pair.given.training, "the network is in training mode"
    same = all(torch.equal(a, b) for a, b in zip(pair.kept(x), pair.given(x), strict=True))
    assert same, "the network gives other numbers: work on copy.deepcopy(module)"
