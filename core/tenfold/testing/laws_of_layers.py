"""The laws of a layer: it is the dense convolution, whatever happens to its numbers."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from dataclasses import replace

import torch
from torch import Tensor

import tenfold

from .. import FactorizedConv
from ..plugin import Plan, Sum
from .example import Example
from .subject import Subject


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
            gap = gap_between(a, b)
            assert gap < 1e-12, f"{layer!r}: {name} is off by {gap:.1e} of its size"


@torch.no_grad()
def follows_its_parameters(subject: Subject, example: Example) -> None:
    """A layer that has run follows its parameters and its input: other numbers, other sizes."""
    request, pairs = subject.draw(example)
    other = replace(request, batch=request.batch + 1, size=tuple(s + 1 for s in request.size))
    another = replace(request, seed=request.seed + 2)
    for pair in pairs:
        layer = request.layer(**pair, dtype=torch.float64).eval()
        x, larger = request.input(), other.input()

        def check(when: str, layer: FactorizedConv = layer, x: Tensor = x) -> None:
            gap = gap_between(layer(x), request.dense(x, layer.weight.to_tensor(), layer.bias))
            assert gap < 1e-12, f"{layer!r} {when}: the output is off by {gap:.1e} of its size"

        check("in eval mode")
        check("called again")
        check("for another input of the same shape", x=another.input())
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


def it_survives_the_ways_layers_travel(subject: Subject, example: Example) -> None:
    """State dicts, pickles, copies, `torch.save` and `.to(dtype)` keep the layer; so does repr."""
    request, pairs = subject.draw(example)
    layer = request.layer(**pairs[0], dtype=torch.float64)
    x = request.input()
    y = layer(x)
    saved = io.BytesIO()
    torch.save(layer, saved)
    saved.seek(0)
    format_ = layer.weight.choice.plugin
    parts = format_.terms if isinstance(format_, Sum) else ()
    plugins = [type(one) for one in (format_, *parts, layer.runner.plugin)]
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
    gap = gap_between(single.double(), y)
    assert gap < 1e-4, f"{layer!r} is off by {gap:.1e} after .float()"


@torch.no_grad()
def leaves_as_plain_modules(subject: Subject, example: Example) -> None:
    """What a layer is spelled as in PyTorch's own modules does the same; MACs counted are ints."""
    request, pairs = subject.draw(example)
    x = request.input()
    for pair in pairs:
        layer = request.layer(**pair, dtype=torch.float64).eval()
        y, plain = layer(x), tenfold.to_plain(layer)
        foreign = {type(one).__module__ for one in plain.modules()}
        foreign = {module for module in foreign if not module.startswith("torch.")}
        assert not foreign, f"{layer!r} is spelled with modules of {', '.join(sorted(foreign))}"
        with warnings.catch_warnings():  # PyTorch's, of a copy that it makes
            warnings.filterwarnings("ignore", message="Using padding='same'")
            gap = gap_between(plain(x), y)
        assert gap < 1e-12, f"{layer!r}: its plain modules are off by {gap:.1e} of its size"
        counted = layer.plan.macs(request.size) if isinstance(layer.plan, Plan) else None
        whole = isinstance(counted, int) and counted > 0
        assert counted is None or whole, f"{layer!r} counts {counted!r} multiply-accumulates"


def gap_between(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest element of `b`."""
    wide = b.detach().double()
    return float((a.detach().double() - wide).abs().max() / wide.abs().max().clamp_min(1e-6))
