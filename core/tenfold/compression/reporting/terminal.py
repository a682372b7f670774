"""A report as a table for a terminal, eighty columns wide."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import words
from .findings import Findings, LayerReport

WIDTH = 80
NAMED = 4  # dense layers that are named for each reason
LEFT = ("layer", "format", "rank")


def table(report: Findings) -> Table:
    """One row for each layer that was factorized, and the totals of all."""
    changed = [layer for layer in report.layers if layer.factorization is not None]
    runs = Counter(layer.implementation for layer in changed).most_common(1)
    usual = runs[0][0] if runs else None
    rows = [_row(layer, usual) for layer in changed]
    shown = Table(
        title=_title(report),
        caption=_caption(report, usual),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_footer=True,
        min_width=WIDTH,
    )
    counts = (words.left(report.parameters), words.left(report.macs))
    footers = ("network", "", "", *counts, words.speed(report.milliseconds))
    titles = (*LEFT, "params", "MACs", "speed", "error")
    for index, (title, footer) in enumerate(
        zip(titles, (*footers, words.error(report.error)), strict=True)
    ):
        left = title in LEFT
        longest = max((len(w) for row in rows for w in row[index].split()), default=1)
        shown.add_column(
            title,
            footer=footer,
            justify="left" if left else "right",
            overflow="fold",
            no_wrap=not left,
            min_width=min(longest, words.LONGEST) if left else None,
        )
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown


def text(shown: Table) -> str:
    """A table as plain text of eighty columns."""
    console = Console(width=WIDTH, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(shown)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _row(layer: LayerReport, usual: str | None) -> tuple[str, ...]:
    run = "" if layer.implementation == usual else f" {layer.implementation}"
    calls = "" if layer.calls == 1 else f" ({layer.calls} calls)"
    return (
        f"{words.name(layer.name)}{calls}",
        f"{layer.factorization}{run}{'' if layer.joint is None else ', tied'}",
        words.rank(layer),
        words.left(layer.parameters),
        words.left(layer.macs),
        words.speed(layer.milliseconds),
        words.error(layer.output_error),
    )


def _title(report: Findings) -> Text:
    lines = [" · ".join(words.changes(report)), words.place(report)]
    if report.score is not None:
        lines.append(f"score {report.score.before:.4f} → {report.score.after:.4f}")
    lines += filter(None, [words.hollow(report)])
    doubt = words.doubt(report.warnings)
    return Text("\n".join(lines if doubt is None else [doubt, *lines]))


def _caption(report: Findings, usual: str | None) -> Text:
    lines = [f"Asked for: {words.aim(report)}; {words.WEIGHED[report.objective]}."]
    if usual is not None:
        lines.append(f"Run by {usual!r} where nothing else is said.")
    lines += [*_unchanged(report), *words.stages(report)]
    lines += filter(None, [words.lagging(report), words.refinement(report)])
    advice = words.advice(report)
    if advice is not None:
        lines.append(advice)
    lines.append(
        "params, MACs: what is left; speed: times as fast; error: of the layer's own output, in "
        "the last row of the network's."
    )
    return Text("\n".join(lines))


def _unchanged(report: Findings) -> list[str]:
    """For each reason the layers that stay as they were by it."""
    found: dict[tuple[str, str], list[str]] = {}
    for layer in report.layers:
        if layer.factorization is None:
            key = words.unchanged(layer).capitalize(), layer.reason or ""
            found.setdefault(key, []).append(words.name(layer.name))
    lines = []
    for (state, reason), names in found.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        because = f" ({reason})" if reason else ""
        lines.append(f"{state}{because}: {', '.join(names[:NAMED])}{more}.")
    return lines
