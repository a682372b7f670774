"""A whole model as ONNX."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import BytesIO, StringIO
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import check_flag, check_model
from .plain_model import to_plain


def to_onnx(model: nn.Module, example_inputs: Any, *, dynamic: bool = False) -> bytes:
    """`model` in eval mode as ONNX, on the CPU: each `FactorizedConv` as its chain of convolutions.

    `example_inputs` is a tensor, or a tuple of the model's arguments. The inputs are called `x`, or
    `x0`, `x1`, …, the outputs likewise `y`. With `dynamic` the batch and the spatial sizes are open
    (of integers every axis, else all but the second, the channels), as far as the model has no
    fixed sizes of its own. By `torch.onnx.export`, tracing: what a model decides by its input's
    values is decided for good. What tracing has no operator for is written by `torch.export`, which
    takes longer.

    Raises `ValueError`, saying why, where the packages are missing or the model cannot be exported,
    and `TypeError` for what is no model or no input.

    >>> found = to_onnx(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.ones(1, 3, 8, 8))
    >>> import onnx
    >>> [node.op_type for node in onnx.load_from_string(found).graph.node]
    ['Conv', 'Relu']
    """
    given = _given(example_inputs)
    check_flag("dynamic", dynamic)
    plain = to_plain(check_model("model", model)).cpu().eval()
    inputs = tuple(x.detach().cpu().contiguous() for x in given)
    names = ["x"] if len(inputs) == 1 else [f"x{index}" for index in range(len(inputs))]
    axes = {name: open_axes(x, name) for name, x in zip(names, inputs, strict=True)}
    try:
        import onnx  # noqa: F401 - torch asks for it at the end of its work
    except ImportError:
        raise ValueError("ONNX needs the package: pip install 'tenfold[onnxruntime]'") from None
    open_ = axes if dynamic else {}
    batch = {name: {0: one[0]} for name, one in open_.items() if 0 in one}
    ways = [partial(_traced, axes=one) for one in ((open_, batch) if dynamic else (open_,))]
    return _first(plain, inputs, names, [*ways, partial(_programmed, axes=open_)])


Way = Callable[[nn.Module, tuple[Tensor, ...], Sequence[str]], bytes]


def _first(
    model: nn.Module, inputs: tuple[Tensor, ...], names: Sequence[str], ways: Sequence[Way]
) -> bytes:
    """What the first of some ways gives that can write a model; `ValueError` where none can."""
    faults: list[Exception] = []
    for way in ways:
        try:
            with torch.no_grad(), _silent():
                return way(model, inputs, names)
        except Exception as fault:  # exporters have many classes for it
            faults.append(fault)
    first = faults[0]
    reason = (str(first).splitlines() or [""])[0]
    raise ValueError(f"torch.onnx cannot export it ({type(first).__name__}: {reason})") from first


@contextmanager
def _silent() -> Iterator[None]:
    """Without warnings, of its own deprecation and of each fixed size, and graphs that failed."""
    log = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *_: None
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch._C._jit_onnx_log = log


def _traced(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    names: Sequence[str],
    axes: dict[str, dict[int, str]],
) -> bytes:
    file: Any = BytesIO()
    options: dict[str, Any] = {"dynamic_axes": axes} if axes else {}
    torch.onnx.export(model, inputs, file, input_names=names, dynamo=False, **options)
    return bytes(file.getvalue())


def _programmed(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    names: Sequence[str],
    axes: dict[str, dict[int, str]],
) -> bytes:
    """By `torch.export`, which keeps a size that was 1 as it was: inputs have two items."""
    auto = torch.export.Dim.AUTO  # open, where the network has no size of its own there
    sizes: Any = tuple(dict.fromkeys(axes.get(name, ()), auto) for name in names)
    kinds = {one.kind for one in inspect.signature(model.forward).parameters.values()}
    sizes = (sizes,) if inspect.Parameter.VAR_POSITIONAL in kinds else sizes
    given = tuple(torch.cat([x, x]) if axes and x.dim() else x for x in inputs)
    options: dict[str, Any] = {"input_names": names, "dynamic_shapes": sizes if axes else None}
    made: Any = torch.onnx.export(model, given, dynamo=True, verbose=False, **options)
    return bytes(made.model_proto.SerializeToString())


def open_axes(x: Tensor, name: str) -> dict[int, str]:
    """The axes of an input that may have other sizes, each with a name."""
    whole = range(x.dim()) if not x.is_floating_point() else (0, *range(2, x.dim()))
    return {axis: "batch" if axis == 0 else f"{name}_{axis}" for axis in whole if axis < x.dim()}


def _given(example_inputs: Any) -> tuple[Tensor, ...]:
    several = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    if not isinstance(several, tuple | list) or not all(isinstance(x, Tensor) for x in several):
        kind = type(example_inputs).__name__
        raise TypeError(f"example_inputs={kind} must be a tensor, or a tuple of tensors")
    return tuple(several)
