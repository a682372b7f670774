"""The laws of running: in other dtypes and layouts, compiled, exported, as operators."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .. import FactorizedConv
from ..plugin import Plan
from .example import Example
from .laws_of_layers import gap_between
from .strategies import Request
from .subject import Subject

HALF = 0.1  # of the largest element: what bfloat16's 8 bits may be off by over a few stages
PYTORCHS = ("aten", "prim", "prims", "mkldnn", "mkldnn_prepacked", "onednn", "mkl", "prepacked")


def runs_in_bfloat16(subject: Subject, example: Example) -> None:
    """A layer in bfloat16 gives bfloat16, near what its parameters mean, and gradients."""
    request, pair = subject.draw_one(example)
    layer = request.layer(**pair).bfloat16()
    x = request.input(torch.bfloat16)
    meant = _meant(request, layer, x)
    for when, y in _both_ways(layer, x):
        assert y.dtype == torch.bfloat16, f"{layer!r} gives {y.dtype} in bfloat16 {when}"
        gap = gap_between(y, meant)
        assert gap < HALF, f"{layer!r} in bfloat16 {when} is off by {gap:.1e} of its size"


def runs_under_autocast(subject: Subject, example: Example) -> None:
    """Under autocast a layer takes float32 and bfloat16, and gives what it gives without."""
    request, pair = subject.draw_one(example)
    layer = request.layer(**pair)
    for dtype in (torch.float32, torch.bfloat16):
        x = request.input(dtype)
        meant = _meant(request, layer, x)
        with torch.autocast("cpu", torch.bfloat16):
            for when, y in _both_ways(layer, x):
                gap = gap_between(y, meant)
                assert gap < HALF, (
                    f"{layer!r} under autocast {when}, for {dtype}, is off by {gap:.1e} of its size"
                )


def runs_in_channels_last(subject: Subject, example: Example) -> None:
    """An image or volume with its channels last gives the same numbers, its channels last too."""
    request, pair = subject.draw_one(example)
    wanted = {2: torch.channels_last, 3: torch.channels_last_3d}[request.order]
    layer = request.layer(**pair, dtype=torch.float64)
    x = request.input()
    meant = request.dense(x, layer.weight.to_tensor(), layer.bias)
    for when, y in _both_ways(layer, x.to(memory_format=wanted)):
        gap = gap_between(y, meant)
        assert gap < 1e-12, f"{layer!r} with channels last {when} is off by {gap:.1e} of its size"
        laid_out = y.is_contiguous(memory_format=wanted)
        assert laid_out, f"{layer!r} given channels last {when} has strides {y.stride()}"


def compiles_in_one_graph(subject: Subject, example: Example) -> None:
    """`torch.compile(fullgraph=True)` takes a layer, in training and in eval, and changes nothing.

    With the backend `"eager"`: what is compiled is looked at, and no compiler is needed.
    """
    request, pair = subject.draw_one(example)
    layer = request.layer(**pair, dtype=torch.float64)
    x = request.input()
    with _quiet():
        torch._dynamo.reset()
        compiled: Any = torch.compile(layer, fullgraph=True, backend="eager")
        trained = compiled(x)
        trained.sum().backward()
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None, f"{layer!r} compiled gives {name} no gradient"
        layer.eval()
        with torch.no_grad():
            given = {"in training": trained, "in eval": compiled(x)}
        torch._dynamo.reset()
    for when, y in given.items():
        gap = gap_between(y, layer(x))
        assert gap < 1e-12, f"{layer!r} compiled {when} is off by {gap:.1e} of its size"


def exports_with_open_sizes(subject: Subject, example: Example) -> None:
    """`torch.export` with the batch and the sizes left open gives a program right for others."""
    request, pair = subject.draw_one(example)
    layer = request.layer(**pair, dtype=torch.float64).eval()
    x = request.input()
    axes = dict.fromkeys((0, *range(2, x.dim())), torch.export.Dim.AUTO)
    with _quiet():
        program = torch.export.export(layer, (x,), dynamic_shapes=(axes,))
    larger = x.new_ones(x.shape[0] + 1, x.shape[1], *(size + 2 for size in x.shape[2:]))
    larger = larger.cumsum(-1).cumsum(1).sin()
    for what, given in {"the example": x, "another size": larger}.items():
        y = program.module()(given)
        meant = layer(given)
        assert y.shape == meant.shape, f"{layer!r} exported gives {y.shape} for {what}"
        gap = gap_between(y, meant)
        assert gap < 1e-10, f"{layer!r} exported is off by {gap:.1e} of its size for {what}"


def its_operators_pass_opcheck(subject: Subject, example: Example) -> None:
    """What a plan calls of operators that are not PyTorch's own passes `torch.library.opcheck`."""
    request, pair = subject.draw_one(example)
    layer = request.layer(**pair, dtype=torch.float64)
    x = request.input().requires_grad_()
    with Watch() as watch:
        layer(x)
        if isinstance(layer.plan, Plan) and layer.sides is None:
            factors = [factor.detach() for factor in layer.weight.factors]
            bias = None if layer.bias is None else layer.bias.detach()
            layer.plan.prepare(factors, bias)(x.detach())
    for operator, given, keywords in watch.called:
        with _quiet():
            try:
                torch.library.opcheck(operator, given, keywords)
            except Exception as fault:
                raise AssertionError(f"{operator} does not pass opcheck: {fault}") from fault


class Watch(TorchDispatchMode):
    """Notes the operators of others, each once, and what they were called with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.called: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        keywords = kwargs or {}
        known = any(func is other for other, _, _ in self.called)
        if func.namespace not in PYTORCHS and not known:
            copies = tuple(
                one.detach().clone().requires_grad_() if _is_real(one) else one for one in args
            )
            self.called.append((func, copies, keywords))
        return func(*args, **keywords)


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _meant(request: Request, layer: FactorizedConv, x: Tensor) -> Tensor:
    """What the layer's parameters mean for `x`, in float64."""
    factors = [factor.detach().double() for factor in layer.weight.factors]
    bias = None if layer.bias is None else layer.bias.detach().double()
    return request.dense(x.double(), layer.weight.network.to_tensor(factors), bias)


def _both_ways(layer: FactorizedConv, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The output in training, whose gradients are asked for, and in eval, twice, as it is kept."""
    y = layer.train()(x)
    y.float().square().sum().backward()
    for name, parameter in layer.named_parameters():
        grad = parameter.grad
        assert grad is not None, f"{layer!r} gives {name} no gradient"
        assert bool(torch.isfinite(grad).all()), f"{layer!r} gives {name} a gradient not finite"
    yield "in training", y
    layer.eval()
    with torch.no_grad():
        yield "in eval", layer(x)
        yield "in eval, called again", layer(x)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch warns of its own compiling."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
