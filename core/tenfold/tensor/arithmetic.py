"""Sums, products and permutations of factorized tensors that keep the factors apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .einsum import contract

DENSE = object()  # what a handler answers that leaves it to the dense tensor
Handler = Callable[..., Any]
HANDLERS: dict[Callable[..., Any], Handler] = {}  # what is done instead of a function of PyTorch


def handles(*functions: Callable[..., Any]) -> Callable[[Handler], Handler]:
    """Register what is done instead of some functions: given the kind, then their arguments."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(functions, handler))
        return handler

    return register


@handles(torch.einsum)
def einsum(kind: Any, equation: Any, *operands: Any) -> Any:
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or "." in equation:
        return DENSE
    left, arrow, right = equation.replace(" ", "").partition("->")
    letters = left.split(",")
    if not arrow:
        seen = left.replace(",", "")
        right = "".join(sorted(letter for letter in set(seen) if seen.count(letter) == 1))
    given = [one.terms if isinstance(one, kind) else one for one in operands]
    found = contract(letters, given, right)
    return DENSE if found is None else found


@handles(torch.tensordot)
def tensordot(kind: Any, a: Any, b: Any, dims: Any = 2, out: Any = None) -> Any:
    if isinstance(dims, int):
        dims = (range(a.ndim - dims, a.ndim), range(dims))
    if out is not None or isinstance(dims, Tensor):
        return DENSE
    mine, theirs = ([place % one.ndim for place in some] for one, some in zip((a, b), dims))  # noqa: B905
    first = [f"a{place}" for place in range(a.ndim)]
    second = [f"b{place}" for place in range(b.ndim)]
    for one, other in zip(mine, theirs, strict=True):
        second[other] = first[one]
    output = [m for m in first if m not in second] + [m for m in second if m not in first]
    given = [one.terms if isinstance(one, kind) else one for one in (a, b)]
    found = contract([first, second], given, output)
    return DENSE if found is None else found


@handles(torch.matmul, torch.mm, torch.mv, Tensor.matmul, Tensor.mm, Tensor.mv, Tensor.__matmul__)
def matmul(kind: Any, a: Any, b: Any) -> Any:
    if a.ndim < 1 or b.ndim < 1 or b.ndim > 2 or (isinstance(a, kind) and a.ndim > 2):
        return DENSE
    return tensordot(kind, a, b, ([a.ndim - 1], [0]))


@handles(F.linear)
def linear(kind: Any, input: Any, weight: Any, bias: Any = None) -> Any:  # noqa: A002
    if isinstance(input, kind) or not isinstance(weight, kind) or weight.ndim != 2:
        return DENSE
    found = tensordot(kind, input, weight, ([input.ndim - 1], [1]))
    if found is DENSE:
        return found
    return found if bias is None else found + (bias.to_tensor() if isinstance(bias, kind) else bias)


@handles(torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__)
def mul(kind: Any, a: Any, b: Any) -> Any:
    value, by = (a, b) if isinstance(a, kind) else (b, a)
    if not _is_scalar(by):
        return DENSE
    return value.of([term.scaled(by) for term in value.terms])


@handles(torch.true_divide, torch.div, Tensor.div, Tensor.__truediv__)
def div(kind: Any, a: Any, b: Any, **options: Any) -> Any:
    if options or not isinstance(a, kind) or not _is_scalar(b):
        return DENSE
    return mul(kind, a, 1 / b)


@handles(torch.neg, Tensor.neg, Tensor.__neg__)
def neg(kind: Any, a: Any) -> Any:
    return mul(kind, a, -1)


@handles(torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__)
def add(kind: Any, a: Any, b: Any, *, alpha: Any = 1, out: Any = None) -> Any:
    both = isinstance(a, kind) and isinstance(b, kind)
    if not both or out is not None or a.shape != b.shape:
        return DENSE
    return a.of([*a.terms, *(b.terms if alpha == 1 else [term.scaled(alpha) for term in b.terms])])


@handles(torch.sub, Tensor.sub, Tensor.__sub__)
def sub(kind: Any, a: Any, b: Any, *, alpha: Any = 1, out: Any = None) -> Any:
    return add(kind, a, b, alpha=-alpha, out=out)


@handles(torch.permute, Tensor.permute)
def permute(kind: Any, a: Any, *dims: Any) -> Any:
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], Sequence) else dims
    places = tuple(place % a.ndim for place in order)
    if sorted(places) != list(range(a.ndim)):
        raise ValueError(f"dims={tuple(order)} must be each of the {a.ndim} axes once")
    return a.of([term.permuted(places) for term in a.terms])


@handles(torch.transpose, torch.swapaxes, Tensor.transpose)
def transpose(kind: Any, a: Any, first: int, second: int) -> Any:
    order = list(range(a.ndim))
    order[first], order[second] = order[second], order[first]
    return permute(kind, a, order)


@handles(torch.t, Tensor.t)
def t(kind: Any, a: Any) -> Any:
    return DENSE if a.ndim != 2 else permute(kind, a, (1, 0))


@handles(torch.sum, Tensor.sum)
def total(kind: Any, a: Any, dim: Any = None, keepdim: bool = False, **options: Any) -> Any:
    if any(options.values()) or keepdim:
        return DENSE
    given = range(a.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    places = frozenset(place % a.ndim for place in given)
    return a.of([term.summed(places) for term in a.terms])


@handles(torch.mean, Tensor.mean)
def mean(kind: Any, a: Any, dim: Any = None, keepdim: bool = False, **options: Any) -> Any:
    found = total(kind, a, dim, keepdim, **options)
    if found is DENSE:
        return found
    left = 1
    for size in found.shape:
        left *= size
    return found * (left / a.shape.numel())


@handles(torch.norm, Tensor.norm, torch.linalg.vector_norm, torch.linalg.norm)
def norm(kind: Any, a: Any, p: Any = 2, dim: Any = None, **options: Any) -> Any:
    if dim is not None or any(options.values()) or p not in (2, "fro", None):
        return DENSE
    modes = [f"a{place}" for place in range(a.ndim)]
    found = contract([modes, modes], [a.terms, [term.conjugate() for term in a.terms]], [])
    return DENSE if found is None else found.real.clamp_min(0).sqrt()


@handles(torch.conj, Tensor.conj)
def conj(kind: Any, a: Any) -> Any:
    return a.of([term.conjugate() for term in a.terms])


@handles(torch.is_complex, Tensor.is_complex)
def is_complex(kind: Any, a: Any) -> bool:
    return bool(a.dtype.is_complex)


@handles(torch.is_floating_point, Tensor.is_floating_point)
def is_floating_point(kind: Any, a: Any) -> bool:
    return bool(a.dtype.is_floating_point)


@handles(nn.init.normal_)
def normal(kind: Any, tensor: Any, *args: Any, **kwargs: Any) -> Any:
    return tensor.normal_(*args, **kwargs)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Number) or (isinstance(value, Tensor) and value.dim() == 0)
