"""What a network does besides calling its layers, counted by operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import log2, prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakTensorKeyDictionary

OUTSIDE = None  # in the place of a layer's name: what is in none
OWN = ("aten", "prim", "prims")  # of PyTorch, where nothing else multiplies much
FEW = 2  # items: fewer than most limits on how many are given; one alone would fit in any place
aten = torch.ops.aten


def _attention(q: Tensor, k: Tensor, v: Tensor) -> int:
    return q.numel() * k.shape[-2] + prod(q.shape[:-1]) * k.shape[-2] * v.shape[-1]


def _recurrence(x: Tensor, weights: Any) -> int:
    matrices = sum(one.numel() for one in weights if one.dim() == 2)
    return x.numel() // x.shape[-1] * int(matrices)


def _fourier(x: Tensor, dim: Sequence[int], size: int | None = None) -> int:
    """Half of the `5 N log₂ n` additions and multiplications of a complex transform, a quarter of
    a real one; `size` is that of the last axis of what one gives that makes real numbers."""
    sizes, whole = [x.shape[axis] for axis in dim], x.numel()
    if size is not None and sizes:
        sizes, whole = [*sizes[:-1], size], whole // max(1, sizes[-1]) * size
    real = size is not None or not x.is_complex()
    return int((1.25 if real else 2.5) * whole * log2(max(1, prod(sizes))))


# Multiply-accumulates of operators that PyTorch's registry, in FLOPs, lacks.
MACS: dict[Any, Callable[..., int]] = {
    aten.mv: lambda matrix, *_, **__: matrix.numel(),
    aten.addmv: lambda _, matrix, *__, **___: matrix.numel(),
    aten.dot: lambda one, *_, **__: one.numel(),
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: _attention(q, k, v),
    aten._scaled_dot_product_fused_attention_overrideable: (
        lambda q, k, v, *_, **__: _attention(q, k, v)
    ),
    aten.mkldnn_rnn_layer: lambda x, *weights, **_: _recurrence(x, weights[:2]),
    aten._fft_c2c: lambda x, dim, *_, **__: _fourier(x, dim),
    aten._fft_r2c: lambda x, dim, *_, **__: _fourier(x, dim),
    aten._fft_c2r: lambda x, dim, _, size: _fourier(x, dim, size),
    aten._cudnn_rnn: lambda x, weights, *_, **__: _recurrence(x, weights),
}


class Operators(TorchDispatchMode):
    """While it is on: the multiply-accumulates of each layer's calls, and of all that is outside.

    `at` has the names of the layers that are being called, the innermost last. `sized` is whether
    an operator outside of them gave a tensor whose size depends on what layers computed, as where
    boxes are picked; with `fewer` such tensors get `FEW` items, at least one less. PyTorch's
    operators are counted by `torch.utils.flop_counter`, whose `register_flop_formula` adds others;
    `uncounted` are the names of those of other libraries that neither knows.
    """

    def __init__(self, fewer: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: Counter[str | None] = Counter()
        self.at: list[str | None] = [OUTSIDE]
        self.sized = False
        self.uncounted: set[str] = set()
        self.fewer = fewer
        self.computed = WeakTensorKeyDictionary()  # what layers gave, and what was made of it

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: PyTorch would import its compiler, seconds of work, to keep it away from this."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        counted = packet in MACS or packet in flop_registry
        if not counted and func is not torch.ops.prim.device.default:
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        found = func(*args, **kwargs)
        if packet in MACS:
            self.macs[self.at[-1]] += MACS[packet](*args, **kwargs)
        elif counted:
            flops = flop_registry[packet](*args, **kwargs, out_val=found)
            self.macs[self.at[-1]] += int(flops) // 2
        elif func.namespace not in OWN:
            self.uncounted.add(f"{func.namespace}::{packet.__name__}")
        return self.followed(func, args, kwargs, found)

    def followed(self, func: Any, args: tuple[Any, ...], kwargs: Any, found: Any) -> Any:
        """What an operator gave, noted where it was made of what layers gave."""
        given = list(_tensors((*args, *kwargs.values())))
        if self.at[-1] is OUTSIDE and not any(one in self.computed for one in given):
            return found
        by, axis = _picking(func, args)
        if any(one in self.computed for one in by):
            self.sized = True
            if self.fewer:
                found = _without_most(found, axis)
        for one in _tensors((found,)):
            self.computed[one] = True
        return found


def _picking(func: Any, args: tuple[Any, ...]) -> tuple[list[Tensor], int]:
    """What says how many items an operator gives, and on which axis; nothing where sizes do."""
    if func is aten.index.Tensor:
        masks = [i for i in _tensors(args[1]) if i.dtype in (torch.bool, torch.uint8)]
        return masks, next(axis for axis, one in enumerate(args[1]) if one is not None)
    if func is aten.masked_select.default:
        return [args[1]], 0
    sized = torch.Tag.dynamic_output_shape in func.tags or func.name() == "torchvision::nms"
    return (list(_tensors(args)) if sized else []), 0


def _without_most(found: Any, axis: int) -> Any:
    first, *rest = found if isinstance(found, tuple) else (found,)
    if first.dim() > axis and first.shape[axis]:
        first = first.narrow(axis, 0, min(FEW, first.shape[axis] - 1))
    return (first, *rest) if isinstance(found, tuple) else first


def _tensors(values: Any) -> Any:
    for one in values:
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, tuple | list):
            yield from _tensors(one)
