"""The table of a benchmark, and its plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from .results import Results, Row, pareto_front

MARKS: dict[str | None, str] = {
    None: "X",
    "reconstructed": "s",
    "factorized": "o",
    "mobilenet": "^",
    "auto": "*",
}


def results_table(results: Results, layer: str) -> Table:
    """The rows of one layer, each with its speed-up over dense."""
    rows = [row for row in results.rows if row.layer == layer]
    dense = rows[0]
    shape = " × ".join(map(str, results.inputs[layer]))
    shown = Table(
        title=f"{layer}: input {shape}, {dense.memory_format}",
        caption=f"{where(results)}. MACs and ms: of one run on\nthat input, "
        "medians, in turn with dense, in the memory format\nin which dense is fastest. "
        "speed: times as fast as dense.",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    errors = any(row.error is not None for row in rows)
    shown.add_column("factorization, implementation", overflow="fold")
    for title in ("k params", "M MACs", "ms", "speed", *(("error",) if errors else ())):
        shown.add_column(title, justify="right", no_wrap=True)
    best = max(row.speedup for row in rows)
    last: tuple[object, ...] = ()
    for row in rows:
        format_ = (row.factorization, row.asked)
        if row.factorization is not None and format_ != last:
            shown.add_row(f"{row.factorization} {str(row.rank).replace(' ', '')}")
        last = format_
        name = f"  {row.implementation}" if row.factorization else "dense"
        style = "bold" if row.speedup == best else ""
        shown.add_row(name, *_cells(row), *([_error(row)] if errors else []), style=style)
    return shown


def where(results: Results) -> str:
    """The device, the threads, the dtype, and the runtime where it is another."""
    threads = f"{results.threads} thread{'s' if results.threads > 1 else ''}"
    place = "" if results.runtime == "eager" else f", in {results.runtime}"
    return f"{results.device}, {threads}, {results.dtype}{place}"


def _cells(row: Row) -> list[str]:
    macs = "–" if row.macs is None else f"{row.macs / 1e6:.1f}"
    return [f"{row.parameters / 1e3:.1f}", macs, f"{row.milliseconds:.3f}", f"{row.speedup:.2f}×"]


def _error(row: Row) -> str:
    return "–" if row.error is None else f"{row.error:.3f}"


def draw_results(results: Results, path: Path) -> None:
    """Draw time against error, or against MACs where no kernel was given; a panel for each layer.

    Times are fractions of dense's, measured in turn. The Pareto front is marked.
    """
    from matplotlib.figure import Figure

    layers = list(results.inputs)
    columns = min(3, len(layers))
    lines = -(-len(layers) // columns)
    figure = Figure(figsize=(2 + 4.5 * columns, max(5, 4 * lines)), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    errors = any(row.error is not None for row in results.rows)
    formats = sorted({row.factorization for row in results.rows if row.factorization})
    colors = {name: f"C{i}" for i, name in enumerate(formats)}
    for axes, layer in zip(panels, layers, strict=False):
        _panel(axes, [row for row in results.rows if row.layer == layer], colors, errors)
        axes.set_title(layer)
    for axes in panels[len(layers) :]:
        axes.remove()
    figure.legend(handles=_legend(results, colors), loc="outside right upper", fontsize="small")
    figure.supxlabel(where(results), fontsize="small", color="0.4")
    figure.savefig(path, dpi=150)


def _panel(axes: Any, rows: list[Row], colors: dict[str, str], errors: bool) -> None:
    points = []
    for row in rows:
        across = row.error if errors else None if row.macs is None else row.macs / 1e6
        if across is None:
            continue
        points.append((across, row.milliseconds / row.dense_milliseconds))
        axes.plot(*points[-1], **_mark(row, colors), zorder=3)
    front = [points[i] for i in pareto_front(points)]
    axes.step(*zip(*front, strict=True), where="post", color="0.5", linewidth=1, zorder=1)
    axes.plot(*zip(*front, strict=True), "o", ms=14, mfc="none", mec="0.5", zorder=2)
    axes.axhline(1, color="0.85", linewidth=1, zorder=0)
    axes.set_xlabel("relative error of the kernel" if errors else "million MACs of one run")
    axes.set_ylabel("time as a fraction of dense's")
    axes.set_xlim(left=0 if not errors else None)
    axes.set_ylim(bottom=0)


def _mark(row: Row, colors: dict[str, str]) -> dict[str, Any]:
    color = colors[row.factorization] if row.factorization else "black"
    marker = MARKS.get(row.implementation, "D")
    return {"color": color, "marker": marker, "alpha": 0.75, "linestyle": "none"}


def _legend(results: Results, colors: dict[str, str]) -> list[Any]:
    """Colours for the formats, marks for the ways of running."""
    from matplotlib.lines import Line2D

    def one(label: str, marker: str, color: str) -> Any:
        return Line2D([], [], label=label, marker=marker, color=color, linestyle="none")

    ways = dict.fromkeys(row.implementation for row in results.rows)
    handles = [one(name, "o", color) for name, color in colors.items()]
    handles += [one(way or "dense", MARKS.get(way, "D"), "black") for way in ways]
    handles.append(Line2D([], [], label="Pareto front", marker="o", ms=12, mfc="none", color="0.5"))
    return handles
