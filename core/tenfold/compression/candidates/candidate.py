"""What a layer may become: what each decomposition costs and loses, run each way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from ...layer import FactorizedConv
from ...plugin import Choice, implementations
from ...plugin import Plan as PluginPlan
from ...run import (
    Added,
    Chain,
    Merged,
    Stored,
    dense_in_eight_bits,
    in_eight_bits,
    make_plan,
)
from ..survey import Layer
from .fitting import Fitted, Rank
from .meter import Meter

BIAS = 12  # bytes of a bias in 32 bits, of its scale and of its zero point


class Candidate(BaseModel):
    """One thing a layer may become; where `factorization` is None it stays as it is.

    Its factors are the leading part of those of the rank `part_of`, where that is given.
    `parameters` are its own, `macs` those of all its calls, and `traffic` the elements that their
    convolutions read and write. `weighted` is its relative error in the norm that it was decomposed
    in, `output_error` that of its output, and `kernel_error` that of its kernel, or None where this
    was not made. `milliseconds` are measured where latency counts, and `error` is the relative
    change of the network's output, or what `evaluate` loses, where it was measured. Where it is to
    be stored in eight bits, its errors are those of its rounded weights, and `stored` are their
    bytes. `joint` is the first layer of those that share the factors, which are counted in equal
    parts, if they are shared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factorization: str | None = None
    implementation: str | None = None
    rank: Rank | None = None
    part_of: Rank | None = None
    parameters: int
    macs: int
    traffic: int = 0
    kernel_error: float | None = 0.0
    output_error: float = 0.0
    weighted: float = 0.0
    milliseconds: float | None = None
    error: float | None = None
    stored: int | None = None
    joint: str | None = None

    @property
    def key(self) -> str:
        """What its factors are stored under, with those of the layer's other candidates."""
        place = self.rank if self.part_of is None else f"part of {self.part_of}"
        return f"{self.factorization}:{place}"


def dense(layer: Layer, module: Any, meter: Meter, bits: int | None) -> Candidate:
    """The layer as it is, or in eight bits."""
    counted = work(layer, module.plan) if isinstance(module, FactorizedConv) else None
    traffic = layer.traffic if counted is None else counted[1]
    made = Candidate(parameters=layer.parameters, macs=layer.macs, traffic=traffic)
    if bits is None:
        return made
    transposed = layer.config.transposed
    if isinstance(module, FactorizedConv):
        network, factors = module.weight.network, [one.detach() for one in module.weight.factors]
        found = in_eight_bits(module.plan, network, factors, transposed)
    else:
        found = dense_in_eight_bits(meter.kernel, layer.config.groups, transposed)
    return made.model_copy(update=_rounded(layer, meter, found))


def candidates(
    layer: Layer,
    meter: Meter,
    fitted: Fitted,
    ways: Sequence[Any],
    refusals: dict[str, str],
    bits: int | None,
) -> Iterator[Candidate]:
    """What a decomposition costs and loses, run each way that does not refuse it.

    In eight `bits` each way loses something else, for it has other weights. `refusals` takes in
    what refuses it, and why.
    """
    weighted, output, plain = meter.lost_by(fitted)
    bias = layer.config.out_channels if layer.config.bias else 0
    asked = layer.request.get("implementation")
    for way in [asked] if asked else ways:
        runner = way if isinstance(way, Choice) else implementations.choose(way)
        try:
            plan = make_plan(fitted.choice, fitted.network, runner, layer.config.geometry)
        except ValueError as refusal:
            refusals[f"{fitted.choice.name} run by {runner.name}"] = str(refusal)
            continue
        counted = work(layer, plan)
        if counted is None:
            said = "its plan counts no MACs, and is taken to have the dense layer's"
            refusals[f"{fitted.choice.name} run by {runner.name}"] = said
        macs, traffic = counted or (layer.macs, layer.traffic)
        made = Candidate(
            factorization=fitted.choice.name,
            implementation=runner.name,
            rank=fitted.rank,
            part_of=fitted.part_of,
            parameters=fitted.network.numel + bias,
            macs=macs,
            traffic=traffic,
            kernel_error=plain,
            output_error=output,
            weighted=weighted,
        )
        yield made if bits is None else in_bits(made, layer, meter, fitted, plan)


def in_bits(made: Candidate, layer: Layer, meter: Meter, fitted: Fitted, plan: Any) -> Candidate:
    """The same in eight bits."""
    transposed = layer.config.transposed
    found = in_eight_bits(plan, fitted.network, fitted.factors, transposed)
    return made.model_copy(update=_rounded(layer, meter, found))


def _rounded(layer: Layer, meter: Meter, found: Stored) -> dict[str, float]:
    """The errors of rounded weights, and the bytes of these and of the bias."""
    weighted, output, plain = meter.lost(found.kernel)
    bias = BIAS * layer.config.out_channels if layer.config.bias else 0
    errors = {"weighted": weighted, "output_error": output, "kernel_error": plain}
    return {**errors, "stored": found.bytes + bias}


def work(layer: Layer, plan: Any) -> tuple[int, int] | None:
    """Multiply-accumulates and traffic of all calls; None for code that does not count its own.

    The traffic of a plan of code of its own is taken to be the dense layer's.
    """
    macs = traffic = 0
    known = True
    for batch, size, _ in layer.maps():
        each = plan.macs(size) if isinstance(plan, PluginPlan) else None
        if each is None:
            return None
        macs += batch * each
        moved = plan.traffic(size) if isinstance(plan, Chain | Added | Merged) else None
        known = known and moved is not None
        traffic += batch * (moved or 0)
    return macs, traffic if known else layer.traffic
