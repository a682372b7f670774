"""What a layer keeps between calls in eval, for as long as nothing it was made from changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from .plan import Plan, Prepared

SAMPLES = 64  # numbers of a factor that are compared on each call


class EvalCache:
    """The prepared plan of one layer.

    A change of a factor or the bias is noticed by its identity, version, memory, shape and dtype.
    PyTorch counts no version where one writes through `.data`, a NumPy view, or memory that two
    tensors were given to share; on the CPU such writes are noticed too, by some of the numbers: by
    all of a small factor, by `SAMPLES` of a large one. The old memory is held, so that its address
    is not used again unseen. Copies and pickles of a cache are empty.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def prepared(
        self, plan: object, factors: nn.ParameterList, bias: Tensor | None, x: Tensor
    ) -> Prepared | None:
        """The plan on these factors, fixed; None where it must be run as it is.

        That is where gradients are needed, where PyTorch is tracing or transforming, and where a
        change could not be noticed.
        """
        if torch.compiler.is_compiling() or not isinstance(plan, Plan) or is_transformed(x):
            return None
        given = (*factors._parameters.values(), bias)
        if torch.is_grad_enabled() and (x.requires_grad or requires_grad(given)):
            return None
        kept = self._kept
        if kept is None or kept.plan is not plan or not kept.made_from(given):
            self._kept = kept = None  # frees the old one first
            if len(given) == len(factors) + 1 and all(map(can_watch, given)):
                self._kept = kept = _Kept.make(plan, given)
        return None if kept is None else kept.run

    def clear(self) -> None:
        """Forget everything."""
        self._kept = None

    def __reduce__(self) -> tuple[type[EvalCache], tuple[()]]:
        return EvalCache, ()


class _Kept(NamedTuple):
    plan: Plan
    watches: tuple[_Watch | None, ...]
    run: Prepared

    @classmethod
    def make(cls, plan: Plan, given: Sequence[Tensor | None]) -> _Kept:
        watches = tuple(None if p is None else _Watch.of(p) for p in given)
        *factors, bias = (None if p is None else p.detach() for p in given)
        device = "cpu" if factors[0] is None else factors[0].device.type
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device, enabled=False):
            return cls(plan, watches, plan.prepare(factors, bias))  # type: ignore[arg-type]

    def made_from(self, given: Sequence[Tensor | None]) -> bool:
        if len(given) != len(self.watches):
            return False
        for tensor, watch in zip(given, self.watches, strict=True):
            if tensor is None or watch is None:
                if not (tensor is None and watch is None):
                    return False
            elif not watch.sees_no_change(tensor):
                return False
        return True


class _Watch(NamedTuple):
    """One tensor as it was."""

    tensor: Tensor
    memory: Tensor  # an alias, which holds it
    version: int
    address: int
    stride: tuple[int, ...]
    samples: Tensor | None  # a view of some of its numbers, as integers; None but on the CPU
    values: Tensor | None  # what they were

    @classmethod
    def of(cls, tensor: Tensor) -> _Watch:
        memory = tensor.detach()
        samples = sampled(memory) if memory.is_cpu else None
        return cls(
            tensor,
            memory,
            tensor._version,
            tensor.data_ptr(),
            tensor.stride(),
            samples,
            None if samples is None else samples.clone(),
        )

    def sees_no_change(self, tensor: Tensor) -> bool:
        return (
            tensor is self.tensor
            and tensor._version == self.version
            and tensor.data_ptr() == self.address
            and tensor.shape == self.memory.shape
            and tensor.stride() == self.stride
            and tensor.dtype is self.memory.dtype
            and (self.samples is None or self.samples.equal(self.values))  # type: ignore[arg-type]
        )


def sampled(tensor: Tensor) -> Tensor:
    """A view of some numbers of a dense tensor, evenly spread, as integers: NaN equals itself."""
    dims = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    flat = tensor.permute(dims).reshape(-1)[:: max(1, tensor.numel() // SAMPLES)]
    return flat.view(BITS[tensor.element_size()])


BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def is_transformed(x: Tensor) -> bool:
    """Whether something watches or replaces what is computed, or `x` is no plain tensor."""
    return (
        type(x) is not Tensor
        or torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def requires_grad(tensors: Iterable[Tensor | None]) -> bool:
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)


def can_watch(tensor: Tensor | None) -> bool:
    """Whether a change of it can be noticed: it has memory and, no inference tensor, a version."""
    if tensor is None:
        return True
    plain = type(tensor) in (Tensor, nn.Parameter)
    return plain and not tensor.is_meta and not tensor.is_inference()
