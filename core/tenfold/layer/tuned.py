"""A layer's decision: made in passing or when asked for, taken over, read from data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from ..arguments import check_flag
from ..plugin import Choice, Fixed, Implementation, Way, implementations, runtimes
from ..run import Chain, is_channels_last, make_plan, with_apart
from ..tuning import EAGER, Decision, Subject, decide, may_measure
from .parts import Tuned
from .rerunning import rerun


def settle(layer: Tuned, x: Tensor, channels_last: bool) -> bool:
    """Decide by the first input of its kind, where measuring is allowed; returns if it is decided.

    A kind is a type of device, a dtype and a memory format.
    """
    kind = (x.device.type, x.dtype, channels_last)
    if layer.training or kind == layer.settled or not may_measure(x):
        return bool(kind == layer.settled)
    decision = decide(subject(layer, x), x, wait=False)
    if decision is not None:
        adopt(layer, decision)
        layer.settled = kind
    return decision is not None


def tune(layer: Tuned, x: Tensor, again: bool, runtime: str = EAGER) -> Decision:
    """Decide for inputs like `x`, batched or not; see `FactorizedConv.tune`."""
    check_flag("again", again)
    order = layer.config.order
    if not layer.candidates:
        raise ValueError(
            f"implementation={layer.runner.spelled} leaves nothing to choose: use "
            "implementation='auto'"
        )
    if x.is_meta or x.numel() == 0:
        raise ValueError(f"example_input of shape {tuple(x.shape)} on {x.device} holds no data")
    x = x.detach()
    x = x.flatten(0, -2) if order == 0 and x.dim() > 2 else x
    x = x.unsqueeze(0) if x.dim() == order + 1 else x
    decision = decide(subject(layer, x), x, again, runtime=runtimes.choose(runtime).name)
    assert decision is not None  # it waits
    adopt(layer, decision)
    layer.measures = True
    layer.settled = (x.device.type, x.dtype, layer.channels_last or is_channels_last(x))
    return decision


def subject(layer: Tuned, x: Tensor) -> Subject:
    """What a tuner needs of the layer, for inputs like `x`."""

    def trial(way: Fixed | str) -> Tuned:
        made = rerun(layer, way)
        made.channels_last = False
        return made

    config = layer.config
    return Subject(
        network=layer.weight.network,
        geometry=config.geometry,
        padding="zeros" if config.sides is None else f"{config.padding_mode} {config.sides}",
        candidates=tuple(one for one in layer.candidates if is_worth(layer, one, x.shape[2:])),
        channels_last=layer.channels_last,
        trial=trial,  # type: ignore[arg-type]
    )


def is_worth(layer: Tuned, way: Way, size: Sequence[int]) -> bool:
    """Whether a candidate is measured: each partition is, and the code of an implementation that
    takes the layer and counts fewer multiply-accumulates than a dense convolution."""
    if not isinstance(way, str):
        return True
    own: Any = layer
    dense = (tuple(range(len(layer.weight.network.factors))),)
    try:
        mine, whole = (rerun(own, one).macs(size) for one in (way, Fixed(dense)))
    except ValueError:
        return False
    return bool(mine < whole)


def adopt(layer: Tuned, decision: Decision) -> None:
    """Let `layer` run as decided.

    Raises `ValueError`, before anything is changed, where it cannot.
    """
    way: Choice[Implementation] = _choice(
        Fixed(decision.partition, decision.memory_format, decision.packed)
    )
    if decision.implementation is not None:
        way = implementations.choose(decision.implementation)
    network, geometry = layer.weight.network, layer.config.geometry
    plan = make_plan(layer.weight.choice, network, way, geometry)
    if layer.runner.plugin.apart and isinstance(plan, Chain):
        plan = with_apart(plan, network, geometry)
    layer.inner, layer.way, layer.decision = plan, way, decision


def _choice(way: Fixed) -> Choice[Implementation]:
    return Choice("fixed", repr(way), way)


def parse_decision(data: Decision | Mapping[str, Any]) -> Decision:
    """Read a decision from JSON data; raises `ValueError` where it is none."""
    if isinstance(data, Decision):
        return data
    try:
        return Decision.model_validate(data)
    except ValidationError as fault:
        first = fault.errors()[0]
        place = "".join(f"{one}: " for one in [".".join(map(str, first["loc"]))] if one)
        reason = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"decision: {place}{reason}") from None
