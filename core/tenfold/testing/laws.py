"""The laws that every plugin keeps, each a check of one drawn example."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

import tenfold
from tenfold import FactorizedConv, FactorizedKernel, implementations, relative_error

from .strategies import Request, fractions, kernel_shapes, requests


@dataclass(frozen=True)
class Subject:
    """What is judged: a format, a way of running, or a pair; names, classes or instances."""

    factorization: Any
    implementation: Any  # None for every installed one that does not refuse the format
    orders: Sequence[int]

    def runners(self, request: Request) -> list[Any]:
        """The implementations that run the request's format."""
        if self.implementation is not None:
            return [self.implementation]
        return [name for name in implementations.names() if not self._refused(request, name)]

    def _refused(self, request: Request, name: str) -> bool:
        try:
            request.layer(factorization=self.factorization, implementation=name)
        except ValueError as refusal:
            return "cannot run" in str(refusal)
        return False


def runs_as_the_dense_convolution(subject: Subject, data: st.DataObject) -> None:
    """Outputs and gradients are those of a dense convolution with `weight.to_tensor()`."""
    request = data.draw(requests(subject.orders))
    for runner in subject.runners(request):
        layer = request.layer(
            factorization=subject.factorization, implementation=runner, dtype=torch.float64
        )
        x = request.input().requires_grad_()
        inputs = [x, *layer.parameters()]
        y = layer(x)
        dense = request.dense(x, layer.weight.to_tensor(), layer.bias)
        assert y.shape == dense.shape, f"{layer!r}: shape {y.shape}, not {dense.shape}"
        towards = torch.ones_like(dense).cumsum(-1)
        mine = torch.autograd.grad((y * towards).sum(), inputs)
        theirs = torch.autograd.grad((dense * towards).sum(), inputs)
        for name, a, b in zip(
            ("output", "input gradient", *(n for n, _ in layer.named_parameters())),
            (y, *mine),
            (dense, *theirs),
            strict=True,
        ):
            gap = _gap(a, b)
            assert gap < 1e-12, f"{layer!r}: {name} is off by {gap:.1e} of its size"


def full_rank_is_exact(subject: Subject, data: st.DataObject) -> None:
    """At bonds of their exact sizes any kernel comes back."""
    kernel = _kernel(data, subject)
    made = _decomposed(subject, kernel, 10**9)
    error = relative_error(kernel, made.to_tensor())
    assert error < 1e-5, f"{made!r}: relative error {error:.1e} at full rank"


def error_does_not_rise_with_rank(subject: Subject, data: st.DataObject) -> None:
    """A larger budget is not decomposed worse, but for the luck of a random start."""
    kernel = _kernel(data, subject)
    small = data.draw(fractions())
    fewer = _decomposed(subject, kernel, small)
    more = _decomposed(subject, kernel, small + data.draw(fractions()))
    errors = [relative_error(kernel, made.to_tensor()) for made in (fewer, more)]
    assert errors[1] <= errors[0] + 0.03, f"{fewer!r} has error {errors[0]}, {more!r} {errors[1]}"
    assert errors[0] < 1 + 1e-6, f"{fewer!r} is worse than a kernel of zeros: {errors[0]}"


def the_budget_is_kept(subject: Subject, data: st.DataObject) -> None:
    """A fraction is never exceeded, but where every bond is 1; `numel` counts all parameters."""
    shape, fraction = data.draw(kernel_shapes(subject.orders, 32)), data.draw(fractions())
    made = FactorizedKernel.new(shape, rank=fraction, factorization=subject.factorization)
    real = sum(parameter.numel() for parameter in made.parameters())
    assert made.numel() == made.network.numel == real, f"{made!r} counts {made.numel()}, has {real}"
    ranks = made.rank if isinstance(made.rank, tuple) else (made.rank,)
    within = real <= fraction * prod(shape) * (1 + 1e-9)
    assert within or set(ranks) == {1}, f"{made!r} has {real} of {prod(shape)} parameters"


def the_same_request_gives_the_same_layer(subject: Subject, data: st.DataObject) -> None:
    """One seed gives one kernel, and the realised rank, asked for, gives the same shapes."""
    kernel, fraction = _kernel(data, subject), data.draw(fractions())
    first = _decomposed(subject, kernel, fraction)
    second = _decomposed(subject, kernel, fraction)
    for a, b in zip(first.factors, second.factors, strict=True):
        assert torch.equal(a, b), f"{first!r} differs from itself under the same seed"
    again = FactorizedKernel.new(kernel.shape, rank=first.rank, factorization=subject.factorization)
    shapes = [tuple(f.shape) for f in first.factors]
    assert [tuple(f.shape) for f in again.factors] == shapes, f"rank={first.rank} is not stable"


def it_survives_the_ways_layers_travel(subject: Subject, data: st.DataObject) -> None:
    """State dicts, pickles, copies, `torch.save` and `.to(dtype)` keep the layer; so does repr."""
    request = data.draw(requests(subject.orders))
    runner = subject.runners(request)[0]
    names = {"factorization": subject.factorization, "implementation": runner}
    layer = request.layer(**names, dtype=torch.float64)
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
    gap = _gap(copy.deepcopy(layer).float()(x.float()).double(), y)
    assert gap < 1e-4, f"{layer!r} is off by {gap:.1e} after .float()"


def fresh_kernels_have_the_dense_variance(subject: Subject, data: st.DataObject) -> None:
    """The mean square of a fresh kernel is that of `nn.ConvNd`'s own, `1 / (3 * fan_in)`."""
    shape = data.draw(kernel_shapes(subject.orders))
    rank = data.draw(st.one_of(fractions(), st.integers(1, 9)))
    made = FactorizedKernel.new(shape, rank=rank, factorization=subject.factorization)
    ratio = float(made.to_tensor().detach().square().mean()) * 3 * prod(shape[1:])
    assert 0.7 < ratio < 1.4, f"{made!r} has {ratio:.2f} times the variance"


FORMAT_LAWS = (
    runs_as_the_dense_convolution,
    full_rank_is_exact,
    error_does_not_rise_with_rank,
    the_budget_is_kept,
    the_same_request_gives_the_same_layer,
    it_survives_the_ways_layers_travel,
    fresh_kernels_have_the_dense_variance,
)
RUNNER_LAWS = (runs_as_the_dense_convolution, it_survives_the_ways_layers_travel)


def _kernel(data: st.DataObject, subject: Subject) -> Tensor:
    shape = data.draw(kernel_shapes(subject.orders, largest=4))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _decomposed(subject: Subject, kernel: Tensor, rank: Any) -> FactorizedKernel:
    generator = torch.Generator().manual_seed(0)
    return FactorizedKernel.from_tensor(
        kernel, rank=rank, factorization=subject.factorization, generator=generator
    )


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a.detach() - b.detach()).abs().max() / b.detach().abs().max().clamp_min(1e-6))
