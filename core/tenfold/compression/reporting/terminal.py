"""A report as a table for a terminal, eighty columns wide."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.table import Table
from rich.text import Text

from . import words
from .findings import Findings, LayerReport


def table(report: Findings) -> Table:
    """One row for each layer that was factorized, and the totals of all."""
    changed = [layer for layer in report.layers if layer.factorization is not None]
    runs = Counter(layer.implementation for layer in changed).most_common(1)
    usual = runs[0][0] if runs else None
    shown = Table(
        title=_title(report),
        caption=_caption(report, usual),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_footer=True,
    )
    totals = ("network", "", "", *map(words.fraction, (report.parameters, report.macs)))
    speed = "" if report.milliseconds is None else words.fraction(report.milliseconds)
    footers = (*totals, speed, words.error(report.error))
    titles = ("layer", "format", "rank", "params", "MACs", "ms", "error")
    for title, footer in zip(titles, footers, strict=True):
        left = title in ("layer", "format", "rank")
        shown.add_column(
            title,
            footer=footer,
            justify="left" if left else "right",
            overflow="fold",
            no_wrap=not left,
        )
    for layer in changed:
        shown.add_row(*map(Text, _row(layer, usual)))
    return shown


def _row(layer: LayerReport, usual: str | None) -> tuple[str, ...]:
    run = "" if layer.implementation == usual else f" {layer.implementation}"
    return (
        layer.name if layer.calls == 1 else f"{layer.name} ×{layer.calls}",
        f"{layer.factorization}{run}",
        words.rank(layer),
        words.fraction(layer.parameters),
        words.fraction(layer.macs),
        "" if layer.milliseconds is None else words.fraction(layer.milliseconds),
        words.error(layer.output_error),
    )


def _title(report: Findings) -> str:
    numbers = [
        f"{words.short(report.parameters.before)} → {words.short(report.parameters.after)} params",
        f"{words.short(report.macs.before)} → {words.short(report.macs.after)} MACs",
    ]
    if report.milliseconds is not None:
        before, after = report.milliseconds.before, report.milliseconds.after
        numbers.append(f"{words.milliseconds(before)} → {words.milliseconds(after)} ms")
    if report.score is not None:
        numbers.append(f"score {report.score.before:.4f} → {report.score.after:.4f}")
    return " · ".join(numbers)


def _caption(report: Findings, usual: str | None) -> str:
    lines = [f"Asked for: {words.aim(report)}; {words.WEIGHED[report.objective]}."]
    if usual is not None:
        lines.append(f"Run by {usual!r} where nothing else is said.")
    kept = [layer for layer in report.layers if layer.factorization is None]
    dense = len([layer for layer in kept if layer.shape])
    outside = sum(layer.macs.before for layer in kept if not layer.shape)
    if outside:
        lines.append(f"{words.short(outside)} MACs are in no layer, and stay.")
    if dense:
        lines.append(f"{dense} other layer{'s' if dense > 1 else ''} stayed dense.")
    advice = words.advice(report)
    if advice is not None:
        lines.append(advice)
    lines.append("error: of the layer's own output; of the network's, in the last row.")
    return "\n".join(lines)
