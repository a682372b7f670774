"""A report's charts in a file: where the budget went, and the error that each budget buys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import svg, words
from .findings import Findings
from .svg import AFTER, BEFORE, ERROR

SUFFIXES = (".png", ".pdf", ".svg")


def plot(report: Findings, path: Path) -> None:
    """Draw all charts to a PNG, PDF or SVG file.

    Raises `ValueError` for another kind of file, and `ImportError` for a PNG or PDF without
    matplotlib.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"path={path} must end in {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".svg":
        path.write_text(svg.document(svg.charts(report)), encoding="utf-8")
        return
    figure = _figure(len(svg.largest(report)), extra=2.8 * bool(report.curve))
    if report.curve:
        height = figure.get_figheight()
        top, bottom = figure.subfigures(2, 1, height_ratios=(height - 2.8, 2.8))
        draw_layers(report, top)
        draw_curve(report, bottom)
    else:
        draw_layers(report, figure)
    figure.savefig(path, dpi=150)


def draw_layers(report: Findings, figure: Any) -> None:
    """For each layer, its cost before and after, and its error, side by side."""
    layers = svg.largest(report)
    metric = report.metric if all(words.cost(one, report.metric) for one in layers) else "macs"
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    rows = range(len(layers))
    changes = [words.cost(one, metric) for one in layers]
    left.barh(rows, [c.before if c else 0 for c in changes], color=BEFORE, label="before")
    left.barh(rows, [c.after if c else 0 for c in changes], 0.5, color=AFTER, label="after")
    left.set_yticks(rows, [words.name(one.name) for one in layers], parse_math=False, fontsize=8)
    left.set_ylim(len(layers) - 0.4, -0.6)
    left.set_title(words.METRICS[metric], loc="left", fontsize=10)
    left.xaxis.set_major_formatter(lambda value, _: words.short(value))
    right.barh(
        rows, [one.output_error for one in layers], color=BEFORE, label="error of its output"
    )
    right.barh(rows, [one.error for one in layers], 0.5, color=ERROR, label="of the network's")
    right.tick_params(left=False)
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
        _plain(axes)


def draw_curve(report: Findings, figure: Any) -> None:
    """The error of the output at each budget, and the score where there is one."""
    axes = figure.subplots()
    points = sorted(report.curve, key=lambda point: point.budget)
    budgets = [point.budget for point in points]
    axes.plot(budgets, [point.error for point in points], "o-", color=ERROR)
    axes.set_xlabel(f"budget, as a fraction of the {words.METRICS[report.metric]}", fontsize=9)
    axes.set_ylabel("relative change of the output", color=ERROR, fontsize=9)
    axes.set_ylim(bottom=0)
    scores = [point.score for point in points]
    _plain(axes)
    if all(score is not None for score in scores):
        second = axes.twinx()
        second.plot(budgets, scores, "s--", color=AFTER)
        second.set_ylabel("score", color=AFTER, fontsize=9)
        _plain(second)


def _figure(rows: int, extra: float = 0) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(9, max(2.4, 0.9 + 0.22 * rows) + extra), layout="constrained")


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#e2e8f0", linewidth=0.8)
