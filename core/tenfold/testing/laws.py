"""The laws that every plugin keeps, each a check of one drawn example."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

import tenfold

from .. import FactorizedConv, FactorizedKernel, factorizations, implementations, relative_error
from .example import Example
from .strategies import Request, fractions, kernel_shapes, kernels, requests


@dataclass(frozen=True)
class Subject:
    """What is judged: a format, a way of running, or a pair; names, classes or instances."""

    factorization: Any  # None for every installed one that the implementation takes
    implementation: Any  # None for every installed one that takes the format
    orders: Sequence[int]

    def __str__(self) -> str:
        given = {"factorization": self.factorization, "implementation": self.implementation}
        return ", ".join(
            f"{kind}={getattr(asked, '__name__', None) or repr(asked)}"
            for kind, asked in given.items()
            if asked is not None
        )

    def draw(self, example: Example) -> tuple[Request, list[dict[str, Any]]]:
        """Draw a convolution, and list the pairs to run it with, as keywords.

        Where the implementation does not take it, Hypothesis is told to draw another.
        """
        request = example.draw("the convolution", requests(self.orders))
        if self.factorization is None:
            formats = [example.draw("factorization", st.sampled_from(factorizations.names()))]
        else:
            formats = [self.factorization]
        ways = implementations.names() if self.implementation is None else [self.implementation]
        pairs = [{"factorization": one, "implementation": way} for one in formats for way in ways]
        taken = [pair for pair in pairs if not refused(request, pair)]
        assume(taken)
        return request, taken


def refused(request: Request, pair: dict[str, Any]) -> bool:
    """Whether the implementation says that it cannot run the request in this format."""
    try:
        request.layer(**pair)
    except ValueError as refusal:
        return "cannot run" in str(refusal)
    return False


Law = Callable[[Subject, Example], None]


def runs_as_the_dense_convolution(subject: Subject, example: Example) -> None:
    """Outputs and gradients are those of a dense convolution with `weight.to_tensor()`."""
    request, pairs = subject.draw(example)
    for pair in pairs:
        layer = request.layer(**pair, dtype=torch.float64)
        x = request.input().requires_grad_()
        inputs = [x, *layer.parameters()]
        before = [one.detach().clone() for one in inputs]
        y = layer(x)
        for one, copied in zip(inputs, before, strict=True):
            assert torch.equal(one, copied), f"{layer!r} changes its input or its parameters"
        dense = request.dense(x, layer.weight.to_tensor(), layer.bias)
        assert y.shape == dense.shape, f"{layer!r}: shape {y.shape}, not {dense.shape}"
        towards = torch.ones_like(dense).cumsum(-1)
        mine, theirs = (
            torch.autograd.grad((out * towards).sum(), inputs, materialize_grads=True)
            for out in (y, dense)
        )
        for name, a, b in zip(
            (
                "output",
                "input gradient",
                *(f"gradient of {n}" for n, _ in layer.named_parameters()),
            ),
            (y, *mine),
            (dense, *theirs),
            strict=True,
        ):
            gap = _gap(a, b)
            assert gap < 1e-12, f"{layer!r}: {name} is off by {gap:.1e} of its size"


@torch.no_grad()
def follows_its_parameters(subject: Subject, example: Example) -> None:
    """A layer that has run follows its parameters when they change, and takes other sizes."""
    request, pairs = subject.draw(example)
    other = replace(request, batch=request.batch + 1, size=tuple(s + 1 for s in request.size))
    for pair in pairs:
        layer = request.layer(**pair, dtype=torch.float64).eval()
        x, larger = request.input(), other.input()

        def check(when: str, layer: FactorizedConv = layer, x: Tensor = x) -> None:
            gap = _gap(layer(x), request.dense(x, layer.weight.to_tensor(), layer.bias))
            assert gap < 1e-12, f"{layer!r} {when}: the output is off by {gap:.1e} of its size"

        check("in eval mode")
        check("called again")
        check("for a larger input", x=larger)
        for parameter in layer.parameters():
            parameter.add_(0.1)
        check("after its parameters were changed in place")
        layer.load_state_dict({name: 2 * one for name, one in layer.state_dict().items()})
        check("after load_state_dict")
        for factor in layer.weight.factors:
            factor.data = 0.5 * factor.data
        check("after its parameters were given other data")
        layer.train()
        check("back in training mode")


def owns_factors_and_bias_alone(subject: Subject, example: Example) -> None:
    """A layer's parameters are the factors and the bias, each counted, and nothing else."""
    request, pairs = subject.draw(example)
    for pair in pairs:
        layer = request.layer(**pair)
        counted = layer.weight.numel() + (0 if layer.bias is None else layer.bias.numel())
        real = sum(parameter.numel() for parameter in layer.parameters())
        assert real == counted, f"{layer!r} has {real} parameters and counts {counted}"
        constants = {f"weight.factors.{index}" for index in layer.weight.network.constants}
        extra = {name for name, _ in layer.named_buffers()} - constants
        assert not extra, f"{layer!r} has the buffers {', '.join(sorted(extra))}"


def full_rank_is_exact(subject: Subject, example: Example) -> None:
    """At bonds of their exact sizes any kernel comes back, group by group."""
    groups = example.draw("groups", st.integers(1, 3))
    kernel = example.draw("kernel", kernels(subject.orders, groups=groups))
    made = _decomposed(subject, kernel, 10**9, groups)
    error = relative_error(kernel, made.to_tensor())
    assert error < 1e-5, f"{made!r}: relative error {error:.1e} at full rank"


def error_does_not_rise_with_rank(subject: Subject, example: Example) -> None:
    """A larger budget is not decomposed worse, but for the luck of a random start."""
    kernel = example.draw("kernel", kernels(subject.orders))
    small = example.draw("rank", fractions())
    more_of_it = example.draw("more", fractions())
    fewer = _decomposed(subject, kernel, small)
    more = _decomposed(subject, kernel, small + more_of_it)
    errors = [relative_error(kernel, made.to_tensor()) for made in (fewer, more)]
    assert errors[1] <= errors[0] + 0.03, f"{fewer!r} has error {errors[0]}, {more!r} {errors[1]}"
    assert errors[0] < 1 + 1e-6, f"{fewer!r} is worse than a kernel of zeros: {errors[0]}"


def the_budget_is_kept(subject: Subject, example: Example) -> None:
    """A fraction is never exceeded, but where every bond is 1; `numel` counts all parameters."""
    shape = example.draw("shape", kernel_shapes(subject.orders, 32))
    fraction = example.draw("rank", fractions())
    made = FactorizedKernel.new(shape, rank=fraction, factorization=subject.factorization)
    real = sum(parameter.numel() for parameter in made.parameters())
    assert made.numel() == made.network.numel == real, f"{made!r} counts {made.numel()}, has {real}"
    ranks = made.rank if isinstance(made.rank, tuple) else (made.rank,)
    within = real <= fraction * prod(shape) * (1 + 1e-9)
    assert within or set(ranks) == {1}, f"{made!r} has {real} of {prod(shape)} parameters"


def the_same_request_gives_the_same_layer(subject: Subject, example: Example) -> None:
    """One seed gives one kernel, and the realised rank, asked for, gives the same shapes."""
    kernel = example.draw("kernel", kernels(subject.orders))
    fraction = example.draw("rank", fractions())
    first = _decomposed(subject, kernel, fraction)
    second = _decomposed(subject, kernel, fraction)
    for a, b in zip(first.factors, second.factors, strict=True):
        assert torch.equal(a, b), f"{first!r} differs from itself under the same seed"
    again = FactorizedKernel.new(kernel.shape, rank=first.rank, factorization=subject.factorization)
    shapes = [tuple(f.shape) for f in first.factors]
    assert [tuple(f.shape) for f in again.factors] == shapes, f"rank={first.rank} is not stable"


def it_survives_the_ways_layers_travel(subject: Subject, example: Example) -> None:
    """State dicts, pickles, copies, `torch.save` and `.to(dtype)` keep the layer; so does repr."""
    request, pairs = subject.draw(example)
    layer = request.layer(**pairs[0], dtype=torch.float64)
    x = request.input()
    y = layer(x)
    saved = io.BytesIO()
    torch.save(layer, saved)
    saved.seek(0)
    plugins = [type(layer.weight.choice.plugin), type(layer.runner.plugin)]
    scope = {**vars(tenfold), "torch": torch, **{cls.__name__: cls for cls in plugins}}
    remade = eval(repr(layer), scope)
    remade.load_state_dict(layer.state_dict())
    travelled = {
        "deepcopy": copy.deepcopy(layer),
        "pickle": pickle.loads(pickle.dumps(layer)),
        "torch.save": torch.load(saved, weights_only=False),
        "repr": remade,
    }
    for way, other in travelled.items():
        assert isinstance(other, FactorizedConv)
        assert torch.equal(other(x), y), f"{layer!r} is changed by {way}"
        assert repr(other) == repr(layer), f"{way}: {other!r} is not {layer!r}"
    single = copy.deepcopy(layer).float()(x.float())
    assert single.dtype == torch.float32, f"{layer!r} gives {single.dtype} after .float()"
    gap = _gap(single.double(), y)
    assert gap < 1e-4, f"{layer!r} is off by {gap:.1e} after .float()"


def fresh_kernels_have_the_dense_variance(subject: Subject, example: Example) -> None:
    """The mean square of a fresh kernel is that of `nn.ConvNd`'s own, `1 / (3 * fan_in)`."""
    shape = example.draw("shape", kernel_shapes(subject.orders))
    rank = example.draw("rank", st.one_of(fractions(), st.integers(1, 9)))
    made = FactorizedKernel.new(shape, rank=rank, factorization=subject.factorization)
    ratio = float(made.to_tensor().detach().square().mean()) * 3 * prod(shape[1:])
    assert 0.7 < ratio < 1.4, f"{made!r} has {ratio:.2f} times the variance"


LAYER_LAWS: tuple[Law, ...] = (
    runs_as_the_dense_convolution,
    follows_its_parameters,
    owns_factors_and_bias_alone,
    it_survives_the_ways_layers_travel,
)
FORMAT_LAWS: tuple[Law, ...] = (
    *LAYER_LAWS,
    full_rank_is_exact,
    error_does_not_rise_with_rank,
    the_budget_is_kept,
    the_same_request_gives_the_same_layer,
    fresh_kernels_have_the_dense_variance,
)
RUNNER_LAWS = LAYER_LAWS


def _decomposed(subject: Subject, kernel: Tensor, rank: Any, groups: int = 1) -> FactorizedKernel:
    generator = torch.Generator().manual_seed(0)
    return FactorizedKernel.from_tensor(
        kernel, rank=rank, factorization=subject.factorization, groups=groups, generator=generator
    )


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a.detach() - b.detach()).abs().max() / b.detach().abs().max().clamp_min(1e-6))
