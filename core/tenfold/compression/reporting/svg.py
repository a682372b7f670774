"""A report's charts as SVG text: lengths are percentages, so they are read at any width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from . import words
from .findings import Findings, LayerReport

BEFORE, AFTER, ERROR = "#cbd5e1", "#0f766e", "#b45309"
INK, SOFT = "#0f172a", "#64748b"
MOST = 40  # layers in a chart; of more, those that cost most
TOP, ROW = 30, 36  # pixels of the legend, and of a layer
HEIGHT = 200  # pixels of a curve


class Bar(NamedTuple):
    """A layer's lengths in one unit, each in front of those before it."""

    name: str
    text: str
    lengths: tuple[float, ...]


class Chart(NamedTuple):
    """What is drawn, and how high it is in pixels; its width is that of the place it stands in."""

    title: str
    body: str
    height: int

    def element(self, place: str = 'width="100%"') -> str:
        """One element, by itself or inside another."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {place} height="{self.height}" role="img" '
            f'aria-label="{escape(self.title)}" font-family="system-ui, sans-serif" '
            f'font-size="12" fill="{INK}">{self.body}</svg>'
        )


def charts(report: Findings) -> list[Chart]:
    """Where the budget went, what it cost, and what other budgets would buy."""
    found = [cost_chart(report), error_chart(report)]
    if report.curve:
        points = sorted(report.curve, key=lambda point: point.budget)
        metric = words.METRICS[report.metric]
        found.append(
            _curve(
                "Change of the output at each budget",
                metric,
                [(one.budget, one.error, words.error(one.error)) for one in points],
                ERROR,
            )
        )
        scores = [(p.budget, p.score, f"{p.score:.4f}") for p in points if p.score is not None]
        if scores:
            found.append(_curve("Score at each budget", metric, scores, AFTER, floor=None))
    return found


def document(charts: Sequence[Chart]) -> str:
    """Charts, one below the other, as a file of their own."""
    width, inside, top, parts = 760, 720, 32, []
    for one in charts:
        parts.append(f'<text x="20" y="{top}" font-weight="600">{escape(one.title)}</text>')
        parts.append(one.element(f'x="20" y="{top + 14}" width="{inside}"'))
        top += one.height + 48
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" '
        'font-family="system-ui, sans-serif" font-size="14">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def cost_chart(report: Findings) -> Chart:
    """What each layer costs before and after, in the report's metric or, unmeasured, in MACs."""
    layers = largest(report)
    metric = report.metric if all(words.cost(one, report.metric) for one in layers) else "macs"
    write = words.milliseconds if metric == "latency" else words.short
    bars = []
    for layer in layers:
        change = words.cost(layer, metric) or layer.macs
        same = change.before == change.after
        pair = write(change.after) if same else f"{write(change.before)} → {write(change.after)}"
        bars.append(Bar(words.name(layer.name), pair, (change.before, change.after)))
    title = f"{words.METRICS[metric]} of each layer"
    return bar_chart(title, (("before", BEFORE), ("after", AFTER)), bars)


def error_chart(report: Findings) -> Chart:
    """What replacing each layer alone changes: its own output, and the network's."""
    bars = [
        Bar(
            words.name(one.name),
            "dense"
            if one.factorization is None
            else f"{words.error(one.output_error)} / {words.error(one.error)}",
            (one.output_error, one.error),
        )
        for one in largest(report)
    ]
    legend = (("error of its output", BEFORE), ("of the network's", ERROR))
    return bar_chart("Error of each layer", legend, bars)


def largest(report: Findings) -> list[LayerReport]:
    """The layers of a chart, in the network's order."""

    def before(layer: LayerReport) -> float:
        return (words.cost(layer, report.metric) or layer.macs).before

    kept = sorted(report.layers, key=before, reverse=True)[:MOST]
    return [layer for layer in report.layers if layer in kept]


def bar_chart(title: str, legend: Sequence[tuple[str, str]], bars: Sequence[Bar]) -> Chart:
    """A row for each bar; the legend has the meaning and the colour of each of its lengths."""
    most = max((x for bar in bars for x in bar.lengths if math.isfinite(x)), default=0.0)
    parts, at = [], 0
    for text, color in legend:
        parts.append(_rectangle(at, 2, "10", color) + _text(at + 15, 11, text, SOFT))
        at += 33 + 6 * len(text)
    for index, bar in enumerate(bars):
        y = TOP + ROW * index
        parts.append(_text(0, y + 10, bar.name))
        parts.append(_text("100%", y + 10, bar.text, SOFT, "end"))
        for length, (_, color) in zip(bar.lengths, legend, strict=True):
            parts.append(_rectangle(0, y + 16, f"{_percent(length, most):.2f}%", color))
    return Chart(title, "".join(parts), TOP + ROW * len(bars))


def _curve(
    title: str,
    metric: str,
    points: Sequence[tuple[float, float, str]],
    color: str,
    floor: float | None = 0.0,
) -> Chart:
    """Points above their budgets, joined; `floor` is the value at the foot, or the least one's."""
    values = [value for _, value, _ in points if math.isfinite(value)] or [0.0]
    low, high = min(values) if floor is None else floor, max(values)
    first, last = points[0][0], points[-1][0]
    places = []
    for budget, value, _ in points:
        across = 8 + 84 * ((budget - first) / (last - first) if last > first else 0.5)
        up = _percent(value - low, high - low) / 100
        places.append((across, HEIGHT - 50 - (HEIGHT - 90) * up))
    parts = [
        f'<line x1="{a:.2f}%" y1="{b:.1f}" x2="{c:.2f}%" y2="{d:.1f}" stroke="{color}" '
        'stroke-width="2"/>'
        for (a, b), (c, d) in pairwise(places)
    ]
    for (budget, _, text), (x, y) in zip(points, places, strict=True):
        parts.append(f'<circle cx="{x:.2f}%" cy="{y:.1f}" r="4" fill="{color}"/>')
        parts.append(_text(f"{x:.2f}%", y - 12, text, color, "middle"))
        parts.append(_text(f"{x:.2f}%", HEIGHT - 28, f"{budget:g}", INK, "middle"))
    parts.append(_text("50%", HEIGHT - 8, f"budget: what is left of the {metric}", SOFT, "middle"))
    return Chart(title, "".join(parts), HEIGHT)


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if math.isfinite(part) and part > 0 and whole > 0 else 0.0


def _rectangle(x: int, y: float, width: str, color: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="10" rx="2" fill="{color}"/>'


def _text(x: int | str, y: float, text: str, color: str = INK, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y:.0f}" fill="{color}" text-anchor="{anchor}">{escape(text)}</text>'
