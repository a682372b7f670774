"""How the numbers of a report are written, for a terminal and for a page."""

from __future__ import annotations

import math

from .findings import Change, Findings, LayerReport

METRICS = {"parameters": "parameters", "macs": "MACs", "latency": "milliseconds"}


def short(number: float) -> str:
    """A count in three digits: `950`, `14.7 M`."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:.3g}{unit}" if number < 999.5 * size else f"{number:.3g}"
    return f"{number:.3g}"


def milliseconds(number: float) -> str:
    """A duration in three digits, and no more than two behind the point."""
    return (
        f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"
    )


def error(number: float) -> str:
    """A relative error: `0`, `0.0123`, `2e-05`."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    return f"{number:.4f}" if number >= 0.0005 else f"{number:.0e}"


def fraction(change: Change) -> str:
    """What is left: `0.25×`."""
    return f"{change.after / change.before:.2f}×" if change.before else "–"


def fewer(change: Change) -> str:
    """The same the other way round: `4.0×`."""
    return f"{change.before / change.after:.1f}×" if change.after else "–"


def rank(layer: LayerReport) -> str:
    """`48`, `48, 32`; nothing where the layer stays dense."""
    if layer.rank is None:
        return ""
    return ", ".join(map(str, layer.rank)) if isinstance(layer.rank, tuple) else str(layer.rank)


def aim(report: Findings) -> str:
    """What was asked for, as a phrase."""
    metric = METRICS[report.metric]
    if report.budget is None:
        return f"as few {metric} as the error or score allows"
    return f"at most {report.budget:g} of the {metric}"


WEIGHED = {
    "measured": "layers weighed by what each alone changes at the network's output",
    "energy": "layers weighed by the change of their own output",
    "uniform": "the same fraction of every layer",
}


def cost(layer: LayerReport, metric: str) -> Change | None:
    """What the report's metric counts of a layer; None where it was not measured."""
    return {
        "parameters": layer.parameters,
        "macs": layer.macs,
        "latency": layer.milliseconds,
    }[metric]


def advice(report: Findings) -> str | None:
    """What to ask for instead, where the network came out no faster on this machine."""
    time = report.milliseconds
    if report.metric == "latency" or time is None or time.after < time.before:
        return None
    return (
        f"No faster on this machine, for all that it has fewer {METRICS[report.metric]}: "
        "metric='latency' takes only what is measured to be."
    )
