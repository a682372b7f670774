"""What happens to an input: checked, laid out, convolved by the plan or by what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import is_
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..plugin import Choice, Convolution, Implementation, Way, label
from ..run import (
    LAID_OUT,
    Before,
    Chain,
    EvalCache,
    Kept,
    Sides,
    follow_learning,
    in_format,
    is_channels_last,
    lay_out,
    make_plan,
    may_keep,
    memory_format_of,
    surround,
    surround_learning,
)
from ..tuning import Decision
from .attributes import ConvAttributes
from .inputs import check_input, padding_for
from .tuned import settle

NAMES = tuple(map(str, range(64)))  # of the factors, as nn.ParameterList names them

if TYPE_CHECKING:
    from typing_extensions import Self


class Forward(ConvAttributes, nn.Module):
    """The running half of a layer: how it is made is `FactorizedConv`'s."""

    runner: Choice[Implementation]  # what was asked for
    way: Choice[Implementation]  # what made the plan: a decision may replace it
    plan: Convolution
    sides: Sides | None
    channels_last: bool
    candidates: tuple[Way, ...]
    measures: bool
    decision: Decision | None
    settled: object  # the kind of input that the decision was made for
    eval_cache: EvalCache

    @property
    def inner(self) -> Convolution:
        """The plan for `weight.factors`."""
        return self.plan

    @inner.setter
    def inner(self, plan: Convolution) -> None:
        self.plan = plan

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Convolve `x`; `output_size` is for transposed ones, as `nn.ConvTransposeNd` has it.

        `(batch, in_channels, *size)` to `(batch, out_channels, *size)`, or both without a batch.
        Raises `ValueError` for another shape or device, a size below the kernel's or an output size
        that cannot be, `TypeError` for another dtype or layout; of order 0 an input may be sparse.
        """
        if output_size is None and not torch.compiler.is_compiling():
            ready = self.eval_cache.ready
            way = ready(self.plan, self._given(), x, self.channels_last, self.training)
            if way is not None:
                return way(x)
        order = self.config.order
        factors = self._factors()
        check_input(x, self.config, factors[0])
        if order == 0 and x.dim() > 2:
            y = self.forward(x.flatten(0, -2))
            return y.reshape(*x.shape[:-1], y.shape[-1])
        if x.dim() == order + 1:
            wanted = output_size
            if isinstance(wanted, Sequence) and len(wanted) == order + 1:
                wanted = wanted[1:]
            return self.forward(x.unsqueeze(0), wanted).squeeze(0)
        together = self.channels_last or is_channels_last(x)
        settled = True
        if self.measures and not torch.compiler.is_compiling():
            settled = settle(self, x, together)
        asked = memory_format_of(self.inner)
        inside = together if asked is None else asked == "channels_last"
        before = (inside, together, self.sides, self.config.padding_mode)
        given, x = x, lay_out(x, *before)
        try:
            if output_size is not None:
                return in_format(self._run_sized(x, output_size), together)
            kept = None if self.training else self._kept(x, factors)
            if kept is None:
                learns = self.training or (settled and torch.is_grad_enabled())
                return self._learning(given, x, factors, before, learns)
            y, way = kept.follow(x)
            self._given_back(y)
        except RuntimeError:
            self.config.geometry.check_size(x.shape[2:])  # asked only then: it takes its time
            raise
        result = in_format(y, together)
        if settled:
            if x is not given or result is not y:
                way = partial(surround, way, before)
            kept.remember(given, self.channels_last, way)
        return result

    def _learning(
        self, given: Tensor, x: Tensor, factors: tuple[Tensor, ...], before: Before, learns: bool
    ) -> Tensor:
        """Run the plan as it is, on what was laid out as `x`, with gradients where they are needed;
        the way of a chain is kept for other inputs like the one `given`."""
        whole, together = (*factors, self.bias), before[1]
        if not isinstance(self.plan, Chain) or not learns or not self._is_kept(given, whole):
            return in_format(self._given_back(self.plan(x, factors, self.bias)), together)
        y, way = follow_learning(self.plan, whole, x)
        result = in_format(y, together)
        if x is not given or result is not y:
            way = partial(surround_learning, way, before)
        self.eval_cache.learn(self.plan, whole, given, self.channels_last, way)
        return result

    def _is_kept(self, x: Tensor, whole: tuple[Tensor | None, ...]) -> bool:
        """Whether what is found for `x` and these parameters may be kept: not where the layer's own
        parameters are others, being parametrized."""
        if not may_keep(x):
            return False
        given = self._given()
        return len(given) == len(whole) and all(map(is_, given, whole))

    def _given_back(self, y: Any) -> Tensor:
        """What a plan gave, which a faulty one forgets."""
        if not isinstance(y, Tensor):
            made_by, plan = label(self.way.plugin, "plan"), type(self.plan).__name__
            raise TypeError(f"the plan {plan} that {made_by} made gave {y!r}, not a tensor")
        return y

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; what was kept for eval is forgotten. Raises as `nn.Module`'s."""
        self.eval_cache.clear()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """As every module's; `.to(memory_format=…)` sets the layout of the output, as a dense
        weight's would."""
        if self.order in LAID_OUT:
            probe = self.weight.factors[0].new_empty((1,) + (2,) * (self.order + 1))
            self.channels_last = is_channels_last(fn(in_format(probe, self.channels_last)))
        applied: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return applied

    def _given(self) -> tuple[Tensor | None, ...]:
        """As `(*self.weight.factors, self.bias)`, in a third of the time."""
        factors: Any = self._modules["weight"]._modules["factors"]  # type: ignore[union-attr]
        held = self.weight.current() if factors._buffers else factors._parameters.values()
        return (*held, self._parameters.get("bias"))

    def _factors(self) -> tuple[Tensor, ...]:
        """`tuple(self.weight.factors)`, which takes its time; others than given if parametrized."""
        if not torch.compiler.is_compiling():
            given: Any = self._modules["weight"]._modules["factors"]  # type: ignore[union-attr]
            held = given._parameters
            if tuple(held) == NAMES[: len(given)]:
                return tuple(held.values())
        return self.weight.current()

    def _kept(self, x: Tensor, factors: tuple[Tensor, ...]) -> Kept | None:
        """What is kept of the plan; None where it must be run as it is."""
        whole = (*factors, self.bias)
        return self.eval_cache.kept(self.plan, whole, x) if self._is_kept(x, whole) else None

    def _run_sized(self, x: Tensor, output_size: Sequence[int]) -> Tensor:
        extra = padding_for(x, self.config, output_size)
        factors = tuple(self.weight.factors)
        if isinstance(self.plan, Chain):
            return self.plan(x, factors, self.bias, extra)
        geometry = self.config.geometry.padded(extra)
        plan = make_plan(self.weight.choice, self.weight.network, self.way, geometry)
        return plan(x, factors, self.bias)
