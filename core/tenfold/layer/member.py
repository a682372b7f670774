"""One convolution of a joint layer: its geometry and plan, on parameters that are the joint's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..network import Slice
from ..plugin import Choice, Convolution, Factorization, Implementation, Plan, Prepared
from ..run import Chain, EvalCache, make_plan, ways
from . import plain
from .choosing import Choosing
from .config import ConvConfig
from .inputs import padding_for
from .kernel import FactorizedKernel

if TYPE_CHECKING:
    from typing_extensions import Self


class SlicedKernel(FactorizedKernel):
    """The kernel of one convolution, computed from the joint one's factors; it has no parameters.

    `factors` are made anew, differentiably, each time that they are asked for.
    """

    def __init__(
        self,
        joint: FactorizedKernel,
        cut: Slice,
        index: tuple[int, ...],
        choice: Choice[Factorization],
    ) -> None:
        nn.Module.__init__(self)
        self.network, self.choice = cut.network, choice
        self.__dict__["source"] = (joint, cut, index)

    @property
    def factors(self) -> Any:
        """The factors of this convolution's network."""
        joint, cut, index = self.__dict__["source"]
        return cut(joint.current(), index)

    def current(self) -> tuple[Tensor, ...]:
        """The factors as the next call uses them; raises nothing."""
        return tuple(self.factors)


@dataclass(frozen=True)
class SlicedPlan(Plan):
    """A plan for one convolution, that takes the factors of all."""

    plan: Convolution
    cut: Slice
    index: tuple[int, ...]

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        return self.plan(x, self.cut(factors, self.index), bias)

    def prepare(self, factors: Sequence[Tensor], bias: Tensor | None) -> Prepared:
        mine = self.cut(factors, self.index)
        if isinstance(self.plan, Plan):
            return self.plan.prepare(mine, bias)
        return lambda x: self.plan(x, mine, bias)

    def macs(self, size: Sequence[int]) -> int | None:
        return self.plan.macs(size) if isinstance(self.plan, Plan) else None


class Member(Choosing):
    """One convolution of a `JointConv`: a module that shares its parameters, and has none.

    It runs, and is a plain module's equal, as a `FactorizedConv` does. It is no place to keep
    parameters: the joint layer has to be in the network too. Made by `joint[index]`.
    """

    def __init__(
        self,
        joint: Any,  # the JointConv
        kernel: FactorizedKernel,  # its own
        cut: Slice,
        index: tuple[int, ...],
        config: ConvConfig,
        runner: Choice[Implementation],
    ) -> None:
        super().__init__()
        self.__dict__["joint"] = joint
        self.cut, self.index, self.config, self.runner, self.way = (
            cut,
            index,
            config,
            runner,
            runner,
        )
        self.inner = make_plan(kernel.choice, cut.network, runner, config.geometry)
        self.sides, self.channels_last = config.sides, False
        self.candidates = ways(cut.network, runner.plugin, config.geometry)
        self.measures = bool(self.candidates)
        self.decision = self.settled = None
        self.eval_cache = EvalCache()

    @property
    def weight(self) -> SlicedKernel:  # type: ignore[override]
        """The kernel of this convolution; `to_tensor()` is differentiable."""
        kernel = self.__dict__["joint"].weight
        return SlicedKernel(kernel, self.cut, self.index, kernel.choice)

    @property
    def bias(self) -> Any:  # type: ignore[override]
        """This convolution's bias, the joint layer's parameter; or None."""
        return self.__dict__["joint"].bias_of(self.index)

    @property
    def training(self) -> bool:
        joint = self.__dict__.get("joint")
        return joint is None or joint.training

    @training.setter
    def training(self, mode: bool) -> None:
        if "joint" in self.__dict__ and self.__dict__["joint"].training != mode:
            self.__dict__["joint"].train(mode)

    @property
    def inner(self) -> Convolution:
        """The plan for `weight.factors`, which `plan` makes of the joint layer's."""
        sliced: SlicedPlan = self.plan  # type: ignore[assignment]
        return sliced.plan

    @inner.setter
    def inner(self, plan: Convolution) -> None:
        self.plan = SlicedPlan(plan, self.cut, self.index)

    def from_factorization(self, kernel: FactorizedKernel, **arguments: Any) -> Any:
        """A convolution by itself, around a copy of a kernel."""
        copies = [factor.detach().clone() for factor in kernel.factors]
        made = FactorizedKernel(kernel.network, copies, kernel.choice)
        return self.__dict__["joint"].single.from_factorization(made, **arguments)

    def to_conv(self) -> nn.Module:
        """The dense module with the same output; raises `ValueError` above order 3."""
        parts: Any = self  # a property is no attribute that can be set, says mypy
        return plain.to_conv(parts)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        return self  # what is moved is the joint layer

    def _given(self) -> tuple[Tensor | None, ...]:
        factors: Any = self.__dict__["joint"].weight.factors
        held = self._factors() if factors._buffers else factors._parameters.values()
        return (*held, self.bias)

    def _factors(self) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.__dict__["joint"].weight.current()
        return found

    def _run_sized(self, x: Tensor, output_size: Sequence[int]) -> Tensor:
        extra = padding_for(x, self.config, output_size)
        mine = self.cut(self._factors(), self.index)
        if isinstance(self.inner, Chain):
            return self.inner(x, mine, self.bias, extra)
        geometry = self.config.geometry.padded(extra)
        choice: Choice[Factorization] = self.__dict__["joint"].weight.choice
        return make_plan(choice, self.cut.network, self.runner, geometry)(x, mine, self.bias)

    def __repr__(self) -> str:
        parts: Any = self
        return f"{plain.spell(parts)} of a JointConv"
