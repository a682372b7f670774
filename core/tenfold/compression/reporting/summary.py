"""The report of a compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

import torch

from ...tuning import device_name
from ..candidates import Candidate, Speed
from ..choice import FLOAT, Choices, Plan
from ..request import CompressionConfig
from ..survey import Layer
from .findings import Change, LayerReport, Point, Refinement, Slower, Stage
from .report import Report
from .words import METRICS


def summarise(
    layers: Sequence[Layer],
    plan: Plan,
    choices: Choices,
    config: CompressionConfig,
    *,
    kernel_errors: Mapping[str, float],
    outside: int,
    uncounted: Sequence[str],
    parameters: Change,
    speed: Speed,
    error: float,
    constant: float | None,
    score: Change | None,
    curve: Sequence[Point],
    warnings: tuple[str, ...],
    passes: float,
    refinement: Refinement | None,
    stages: tuple[Stage, ...],
    slower: Slower | None,
    lagging: tuple[str, ...],
    inputs: tuple[tuple[int, ...], ...],
    device: torch.device,
    last: bool,
) -> Report:
    """Gather what every layer became, and the totals of one run on `inputs`, their shapes."""
    rows = [
        _row(layer, plan, choices, kernel_errors.get(layer.name, 0.0), speed) for layer in layers
    ]
    if outside or uncounted:
        rows.append(_outside(outside, uncounted))
    return Report(
        metric=config.metric,
        objective=config.objective,
        budget=config.budget if config.budget is not None else min(config.budgets, default=None),
        layers=tuple(rows),
        parameters=parameters,
        macs=Change(
            before=sum(row.macs.before for row in rows), after=sum(row.macs.after for row in rows)
        ),
        bytes=_bytes(plan, choices, parameters.before),
        milliseconds=Change(before=speed.before, after=speed.after),
        error=error,
        constant=constant,
        score=score,
        curve=tuple(curve),
        warnings=warnings,
        passes=passes,
        refinement=refinement,
        stages=stages,
        slower=slower,
        lagging=lagging,
        inputs=inputs,
        device=device_name(device),
        runtime=config.runtime,
        threads=torch.get_num_threads(),
        channels_last=last,
        versions={name: version(name) for name in ("tenfold", "torch")},
    )


def _bytes(plan: Plan, choices: Choices, parameters: float) -> Change | None:
    """Of the whole network: what no choice changes stays as it is. None where none is in bits."""
    found = [one.stored for one in choices.values()]
    if plan.config.bits is None:
        return None
    others = parameters - plan.parameters
    return Change(before=FLOAT * parameters, after=FLOAT * others + sum(b or 0 for b in found))


def _outside(macs: int, uncounted: Sequence[str]) -> LayerReport:
    return LayerReport(
        name="(outside of layers)",
        kind="operators",
        shape=(),
        calls=1,
        factorization=None,
        implementation=None,
        rank=None,
        parameters=Change(before=0, after=0),
        macs=Change(before=macs, after=macs),
        milliseconds=None,
        kernel_error=0.0,
        output_error=0.0,
        error=0.0,
        reason="functional calls, attention, recurrences, products: what is no layer stays"
        + (f"; not counted: {', '.join(uncounted)}" if uncounted else ""),
    )


def _row(layer: Layer, plan: Plan, choices: Choices, lost: float, speed: Speed) -> LayerReport:
    chosen = choices.get(layer.name)
    return LayerReport(
        name=layer.name,
        kind=layer.kind,
        shape=layer.config.shape,
        calls=layer.calls,
        factorization=chosen.factorization if chosen else None,
        implementation=chosen.implementation if chosen else None,
        rank=chosen.rank if chosen else None,
        parameters=Change(
            before=layer.parameters, after=chosen.parameters if chosen else layer.parameters
        ),
        macs=Change(before=layer.macs, after=chosen.macs if chosen else layer.macs),
        milliseconds=_time(layer, plan, chosen, speed),
        kernel_error=lost,
        output_error=chosen.output_error if chosen else 0.0,
        error=_error(layer, plan, chosen),
        reason=None if chosen and chosen.factorization else layer.reason or _unasked(layer, plan),
        already=layer.factorized,
        joint=chosen.joint if chosen else None,
    )


def _time(layer: Layer, plan: Plan, chosen: Candidate | None, speed: Speed) -> Change | None:
    """What the budget counted, where it is one of time; else what was measured in its place."""
    if chosen is None:
        return None
    before, after = plan.dense(layer.name).milliseconds, chosen.milliseconds
    if before is None and chosen.factorization is not None and layer.name in speed.layers:
        (_, before), (_, after) = speed.layers[layer.name]
    return None if before is None else Change(before=before, after=after or 0.0)


def _error(layer: Layer, plan: Plan, chosen: Candidate | None) -> float:
    if chosen is None:
        return 0.0
    return plan.error_of(layer.name, chosen) if chosen.joint is None else chosen.error or 0.0


def _unasked(layer: Layer, plan: Plan) -> str:
    """Why the choice fell on the dense layer."""
    said = _why(layer, plan)
    return f"{layer.already}, {said}" if layer.already else said


def _why(layer: Layer, plan: Plan) -> str:
    metric = METRICS[plan.config.metric]
    if len(plan.candidates[plan.names.index(layer.name)]) == 1:
        return f"no format that was tried has fewer {metric}"
    if plan.config.budget is not None or plan.config.budgets:
        return "the budget did not ask for it"
    return "its error would be too large for what it saves"
