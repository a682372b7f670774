"""What a layer keeps between calls in eval, for as long as nothing it was made from changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..plugin import Plan, Prepared
from .memory import keep_memory
from .prepared import BySize, PreparedChain, as_prepared
from .watch import Watch, can_watch

KINDS = 64  # of inputs whose way is remembered
Parameters = Sequence[Tensor | None]  # the factors, and the bias
Step = Callable[[Parameters, Tensor], Tensor]
Way = TypeVar("Way")


class EvalCache:
    """The prepared plan of one layer.

    A change of a factor or the bias is noticed by its identity, version, memory, shape and dtype.
    PyTorch counts no version where one writes through `.data`, a NumPy view, or memory that two
    tensors were given to share; on the CPU such writes are noticed too, anywhere in a factor of up
    to 1024 numbers (in float32), and in a larger one where they change any of 128 numbers spread
    over it, as rows, columns and slices do. After fewer, call `layer.eval()`, which forgets. The
    old memory is held, so that its address is not used again unseen. Copies and
    pickles of a cache are empty.
    """

    def __init__(self) -> None:
        self._kept: Kept | None = None
        self._learned: Learned | None = None

    def ready(
        self, plan: object, given: Parameters, x: Tensor, together: bool, training: bool
    ) -> Prepared | None:
        """The way that an input of this kind went before, where nothing has changed since."""
        kept, learned = self._kept, self._learned  # there is neither while compiling
        if (kept is None and learned is None) or is_transformed(x):
            return None
        try:
            kind = kind_of(x, together)
        except RuntimeError:  # it has no strides: a nested tensor, or compressed rows
            return None
        if training or needs_gradients(x, given):
            if learned is None or learned.plan is not plan or learned.like != like(given):
                return None
            step = learned.ways.get(kind)
            return None if step is None else partial(step, given)
        if kept is None or kept.plan is not plan:
            return None
        way = kept.ways.get(kind)
        return None if way is None or not kept.made_from(given) else way

    def learn(self, plan: object, given: Parameters, x: Tensor, together: bool, step: Step) -> None:
        """Let inputs of the kind of `x` go this way where gradients are needed, without checks."""
        learned = self._learned
        if learned is None or learned.plan is not plan or learned.like != like(given):
            self._learned = learned = Learned(plan, like(given), {})
        _remember(learned.ways, x, together, step)

    def kept(self, plan: object, given: Parameters, x: Tensor) -> Kept | None:
        """The plan on its parameters, fixed, where `may_keep(x)`; None where it must run as it is.

        That is where gradients are needed, and where a change could not be noticed.
        """
        if needs_gradients(x, given):
            return None
        kept = self._kept
        if kept is None or kept.plan is not plan or not kept.made_from(given):
            self._kept = kept = None  # frees the old one first
            if isinstance(plan, Plan) and all(map(can_watch, given)):
                self._kept = kept = Kept.make(plan, given)
        return kept

    def clear(self) -> None:
        """Forget everything."""
        self._kept = self._learned = None

    def __reduce__(self) -> tuple[type[EvalCache], tuple[()]]:
        return EvalCache, ()


class Kept(NamedTuple):
    """A prepared plan, what it was made from, and the ways that inputs went through it."""

    plan: Plan
    watches: tuple[Watch | None, ...]
    run: Prepared
    ways: dict[tuple[object, ...], Prepared]

    @classmethod
    def make(cls, plan: Plan, given: Sequence[Tensor | None]) -> Kept:
        watches = tuple(None if p is None else Watch.of(p) for p in given)
        *factors, bias = (None if p is None else p.detach() for p in given)
        device = "cpu" if factors[0] is None else factors[0].device.type
        if device == "cpu":
            keep_memory()
        with as_prepared(device):
            return cls(plan, watches, plan.prepare(factors, bias), {})  # type: ignore[arg-type]

    def follow(self, x: Tensor) -> tuple[Tensor, Prepared]:
        """The output for `x`, and the way it went."""
        if isinstance(self.run, PreparedChain | BySize):
            return self.run.follow(x)
        return self.run(x), self.run

    def remember(self, x: Tensor, together: bool, way: Prepared) -> None:
        """Let inputs of the kind of `x` go this way, without any check."""
        _remember(self.ways, x, together, way)

    def made_from(self, given: Sequence[Tensor | None]) -> bool:
        """Whether the parameters are still as they were; this runs on every call."""
        if len(given) != len(self.watches):
            return False
        for tensor, watch in zip(given, self.watches, strict=True):
            if watch is None:
                if tensor is not None:
                    return False
                continue
            known, _, version, address, stride, shape, dtype, buffer, some, there = watch
            if (
                tensor is None
                or tensor is not known
                or tensor._version != version
                or tensor.data_ptr() != address
                or tensor.stride() != stride
                or tensor.shape != shape
                or tensor.dtype is not dtype
                or (buffer is not None and buffer.raw != there)
                or (some is not None and some != there)
            ):
                return False
        return True


class Learned(NamedTuple):
    """The ways that inputs went through a plan with gradients, by whatever parameters are `like`
    those."""

    plan: object
    like: tuple[object, ...]
    ways: dict[tuple[object, ...], Step]


def _remember(ways: dict[tuple[object, ...], Way], x: Tensor, together: bool, way: Way) -> None:
    if not any(x.stride()[1:]):  # as sparse tensors, and oneDNN's, say of theirs
        return
    if len(ways) >= KINDS:
        ways.clear()
    ways[kind_of(x, together)] = way


def like(given: Parameters) -> tuple[object, ...]:
    """What a way with gradients depends on of the parameters."""
    first = given[0]
    return (len(given), None if first is None else (first.dtype, first.device, first.shape))


def is_transformed(x: Tensor) -> bool:
    """Whether something watches or replaces what is computed, or `x` is no plain tensor."""
    return (
        type(x) is not Tensor
        or torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def may_keep(x: Tensor) -> bool:
    """Whether what is found for `x` may be kept: not where PyTorch is tracing or transforming, nor
    for inputs that are sparse or hold no data."""
    dense = x.layout == torch.strided and not x.is_meta
    return dense and not (torch.compiler.is_compiling() or is_transformed(x))


def needs_gradients(x: Tensor, given: Iterable[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and (
        x.requires_grad or any(tensor is not None and tensor.requires_grad for tensor in given)
    )


def kind_of(x: Tensor, together: bool) -> tuple[object, ...]:
    """All that the way of an input depends on; `together` is the layout asked of the output."""
    return (
        x.shape,
        x.stride(),
        x.dtype,
        x.device,
        together,
        torch._C._get_mkldnn_enabled(),
        torch.is_autocast_enabled("cpu" if x.is_cpu else x.device.type),  # the name takes its time
    )
