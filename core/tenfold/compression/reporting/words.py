"""How the numbers of a report are written, for a terminal and for a page.

Counts are written by what is left of them, `25%`; a `2.00×` is always a speed: twice as fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .findings import Change, Findings, LayerReport

METRICS = {"parameters": "parameters", "macs": "MACs", "latency": "milliseconds"}
LONGEST = 28  # characters of a layer's name
HARDLY = 0.9  # of the error of a constant output, from which little is left
SLOW = 8  # layers that are named, of those that are slower than dense


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


def left(change: Change) -> str:
    """What is left of a count: `25%`, `4.2%`."""
    if not change.before:
        return "–"
    part = 100 * change.after / change.before
    return f"{part:.0f}%" if part >= 9.95 else f"{part:.1f}%"


def speed(change: Change | None) -> str:
    """How many times as fast: `2.00×`; nothing where it was not measured."""
    if change is None:
        return ""
    return f"{change.before / change.after:.2f}×" if change.after else "–"


def rank(layer: LayerReport) -> str:
    """`48`, `48, 32`; nothing where the layer stays dense."""
    if layer.rank is None:
        return ""
    return ", ".join(map(str, layer.rank)) if isinstance(layer.rank, tuple) else str(layer.rank)


def name(text: str) -> str:
    """The end of a long name, which tells it from the others."""
    return text if len(text) <= LONGEST else f"…{text[1 - LONGEST :]}"


def unchanged(layer: LayerReport) -> str:
    """What a layer is that stays: dense, but where it was factorized before, or is no layer."""
    return "dense" if layer.shape and not layer.already else "as it was"


def aim(report: Findings) -> str:
    """What was asked for, as a phrase."""
    metric = METRICS[report.metric]
    if report.budget is None:
        return f"as few {metric} as the error or score allows"
    if report.bytes is not None and report.metric == "parameters":
        metric = "bytes"
    return f"at most {report.budget:.4g} of the {metric}"


WEIGHED = {
    "measured": "layers weighed by what each alone changes at the network's output",
    "energy": "layers weighed by the change of their own output",
    "uniform": "the same fraction of every layer",
}


def changes(report: Findings) -> list[str]:
    """What the network had and has: parameters, multiply-accumulates, time."""
    found = [
        f"{short(report.parameters.before)} → {short(report.parameters.after)} parameters",
        f"{short(report.macs.before)} → {short(report.macs.after)} MACs",
    ]
    if report.bytes is not None:
        found.append(f"{short(report.bytes.before)}B → {short(report.bytes.after)}B in 8 bits")
    time = report.milliseconds
    if time is not None:
        pair = f"{milliseconds(time.before)} → {milliseconds(time.after)} ms"
        found.append(f"{pair} ({speed(time)})")
    return found


def place(report: Findings) -> str:
    """Of what the counts and times are, and where they were measured."""
    shapes = ["×".join(map(str, shape)) or "a number" for shape in report.inputs]
    more = ", …" if len(shapes) > 3 else ""
    threads = f"{report.threads} thread{'s' if report.threads > 1 else ''}"
    threads += "" if report.runtime == "eager" else f", in {report.runtime}"
    last = ", channels last" if report.channels_last else ""
    return f"one run on {', '.join(shapes[:3])}{more}; {report.device}, {threads}{last}"


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


def doubt(warnings: Sequence[str]) -> str | None:
    """Why numbers are to be doubted, if they are."""
    return (
        f"Take care: {'; '.join(warnings)}. Give a few hundred real inputs." if warnings else None
    )


def hollow(report: Findings) -> str | None:
    """That little is left of what the network does, where that is so."""
    if not report.constant or report.error < HARDLY * report.constant:
        return None
    return (
        "Hardly nearer to the original than the same output for every input, the mean of its own "
        f"(error {error(report.constant)}): a larger budget or fine-tuning is wanted."
    )


def stages(report: Findings) -> list[str]:
    """Of each stage whose layers were to be tied, whether they are."""
    said = []
    for stage in report.stages:
        names = f"{', '.join(map(name, stage.layers[:3]))}"
        more = f" and {len(stage.layers) - 3} more" if len(stage.layers) > 3 else ""
        measured = "" if stage.error is None else f"tied {error(stage.error)}, "
        errors = f"output error before corrections: {measured}apart {error(stage.apart)}"
        if stage.reason is None:
            said.append(f"Tied into one network: {names}{more} ({errors}).")
        else:
            said.append(f"Not tied, as {stage.reason}: {names}{more} ({errors}).")
    return said


def lagging(report: Findings) -> str | None:
    """Which layers are slower than dense though the network is not, if any are."""
    if not report.lagging:
        return None
    more = f" and {len(report.lagging) - SLOW} more" if len(report.lagging) > SLOW else ""
    names = ", ".join(map(name, report.lagging[:SLOW]))
    return f"Slower than dense in their place: {names}{more}."


def refinement(report: Findings) -> str | None:
    """What refining the network came to; None where it was not asked for."""
    found = report.refinement
    if found is None:
        return None
    if found.reason is not None:
        return f"Not refined: {found.reason}."
    if not found.share:
        return "Refined, which did not help on held-out inputs and was not kept."
    some = "" if found.share == 1 else f", {found.share:.0%} of the way"
    number = len(found.blocks)
    blocks = f"{number} block{'s' if number > 1 else ''}"
    last = found.blocks[-1]
    change = f"{error(last.before)} → {error(last.after)}"
    return f"Refined in {blocks} to what the original gives{some}: output error {change}."
