"""A report as one page of HTML that needs nothing beside it, and as a part of another."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from . import svg, words
from .findings import Change, Findings, LayerReport

STYLE = """
.tenfold { --ink: #0f172a; --soft: #64748b; --line: #e2e8f0; --teal: #0f766e;
  color: var(--ink); background: #f8fafc; font: 15px/1.5 system-ui, sans-serif;
  padding: 24px 16px; container-type: inline-size; }
.tenfold * { box-sizing: border-box; }
.tenfold main { max-width: 1160px; margin: 0 auto; }
.tenfold h1 { font-size: 26px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -0.02em; }
.tenfold h2 { font-size: 18px; margin: 32px 0 12px; }
.tenfold h3 { font-size: 14px; font-weight: 600; margin: 0 0 12px; }
.tenfold p { margin: 0 0 8px; color: var(--soft); }
.tenfold .cards { display: grid; gap: 12px; margin-top: 20px;
  grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.tenfold .charts { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
.tenfold .card, .tenfold .panel { background: #fff; border: 1px solid var(--line);
  border-radius: 10px; padding: 14px 16px; }
.tenfold .card small { color: var(--soft); display: block; }
.tenfold .card b { font-size: 24px; font-weight: 650; color: var(--teal); }
.tenfold svg { display: block; overflow: visible; }
.tenfold table { border-collapse: collapse; width: 100%; font-size: 13px; color: var(--ink);
  font-variant-numeric: tabular-nums; }
.tenfold th { color: var(--soft); font-weight: 550; white-space: nowrap; }
.tenfold th, .tenfold td { padding: 6px 8px; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; }
.tenfold .n { text-align: right; white-space: nowrap; }
.tenfold tr.dense td, .tenfold tr.dense small { color: #64748b; }
.tenfold tfoot td { font-weight: 650; border-top: 2px solid var(--line); border-bottom: 0; }
.tenfold td code { font: 12px ui-monospace, monospace; overflow-wrap: anywhere; }
.tenfold td small { color: var(--soft); display: block; font-weight: 400; }
@container (max-width: 760px) {
  .tenfold thead { display: none; }
  .tenfold table, .tenfold tbody, .tenfold tfoot, .tenfold tr { display: block; }
  .tenfold tr { padding: 10px 0; border-bottom: 1px solid var(--line); }
  .tenfold td, .tenfold td.n { display: flex; gap: 12px; justify-content: space-between;
    border: 0; padding: 2px 0; text-align: right; white-space: normal; }
  .tenfold td:empty { display: none; }
  .tenfold td::before { content: attr(data-t); color: var(--soft); font-weight: 400;
    text-align: left; flex: none; }
}
@media print { .tenfold { background: #fff; } }
"""

LEFT = ("Layer", "Format", "Rank")
ERRORS = ("Kernel error", "Output error", "Network's error")
TITLES = (*LEFT, "Parameters", "MACs", "ms", *ERRORS)


def page(report: Findings) -> str:
    """The whole document."""
    return f"""<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<title>A compressed network</title>
<style>body {{ margin: 0; background: #f8fafc; color-scheme: light; }}</style>
{fragment(report)}
</html>
"""


def fragment(report: Findings) -> str:
    """What a page of others, as a notebook, can take in."""
    advice = words.advice(report)
    return f"""<div class=tenfold><style>{STYLE}</style><main>
<h1>{escape(_headline(report))}</h1>
<p><b>{escape(words.doubt(report.warnings) or "")}</b></p>
<p>{escape(" · ".join(words.changes(report)))} · {escape(words.place(report))}</p>
<p><b>{escape(words.hollow(report) or "")}</b></p>
<p>Asked for: {escape(words.aim(report))}; {escape(words.WEIGHED[report.objective])}.
{escape(" ".join(words.stages(report)))}
{escape(words.lagging(report) or "")} {escape(words.refinement(report) or "")}
{escape(advice or "")}</p>
<div class=cards>{_cards(report)}</div>
<h2>Where the budget went</h2>
<div class=charts>{"".join(map(_chart, svg.charts(report)))}</div>
<h2>Layers</h2>
<div class=panel>{_table(report)}</div>
<p style="margin-top:12px">{escape(_note(report))}</p>
</main></div>"""


def _headline(report: Findings) -> str:
    counted = {"parameters": report.parameters, "macs": report.macs}
    parts = []
    if report.metric in counted:
        left = words.left(counted[report.metric])
        parts.append(f"{left} of the {words.METRICS[report.metric]}")
    if report.milliseconds is not None:
        parts.append(f"{words.speed(report.milliseconds)} as fast")
    return ", ".join(parts) or "A compressed network"


def _chart(chart: svg.Chart) -> str:
    return f"<div class=panel><h3>{escape(chart.title)}</h3>{chart.element()}</div>"


def _cards(report: Findings) -> str:
    cards = [
        _card("Parameters left", words.left(report.parameters), _pair(report.parameters)),
        _card("MACs left", words.left(report.macs), _pair(report.macs)),
    ]
    time = report.milliseconds
    if time is not None:
        cards.append(
            _card("Times as fast", words.speed(time), f"{_pair(time, words.milliseconds)} ms")
        )
    cards.append(_card("Output error", words.error(report.error), "relative change, held out"))
    if report.score is not None:
        before = f"{report.score.before:.4f} before"
        cards.append(_card("Score", f"{report.score.after:.4f}", before))
    return "".join(cards)


def _card(title: str, number: str, below: str) -> str:
    return (
        f"<div class=card><small>{escape(title)}</small><b>{escape(number)}</b>"
        f"<small>{escape(below)}</small></div>"
    )


def _pair(change: Change, write: Callable[[float], str] = words.short) -> str:
    return f"{write(change.before)} → {write(change.after)}"


def _table(report: Findings) -> str:
    titles = "".join(f"<th{'' if title in LEFT else ' class=n'}>{title}" for title in TITLES)
    rows = "".join(map(_row, report.layers))
    return (
        f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody>"
        f"<tfoot>{_totals(report)}</tfoot></table>"
    )


def _row(layer: LayerReport) -> str:
    shape = "×".join(map(str, layer.shape))
    calls = f", {layer.calls} calls" if layer.calls > 1 else ""
    kind = f"<small>{escape(layer.kind)} {shape}{calls}</small>"
    dense = layer.factorization is None
    below = layer.reason if dense else layer.implementation
    below = below if layer.joint is None else f"{below}, tied to {layer.joint}"
    run = "" if below is None else f"<small>{escape(below)}</small>"
    errors = (layer.kernel_error, layer.output_error, layer.error)
    cells = (
        f"<code>{escape(layer.name)}</code>{kind}",
        f"{escape(layer.factorization or (words.unchanged(layer) if layer.shape else '–'))}{run}",
        words.rank(layer),
        _change(layer.parameters, words.short),
        _change(layer.macs, words.short),
        _time(layer.milliseconds),
        *("" if dense else words.error(one) for one in errors),
    )
    return _line(cells, " class=dense" if dense else "")


def _totals(report: Findings) -> str:
    counts = (_change(report.parameters, words.short), _change(report.macs, words.short))
    time = _time(report.milliseconds)
    return _line(("Network", "", "", *counts, time, "", "", words.error(report.error)))


def _line(cells: tuple[str, ...], style: str = "") -> str:
    """One row; each cell says its title, for screens that are too narrow for columns."""
    shown = []
    for title, cell in zip(TITLES, cells, strict=True):
        right = "" if title in LEFT else " class=n"
        shown.append(f'<td{right} data-t="{title}">{f"<div>{cell}</div>" if cell else ""}</td>')
    return f"<tr{style}>{''.join(shown)}</tr>"


def _change(change: Change, write: Callable[[float], str]) -> str:
    if change.before == change.after:
        return escape(write(change.before))
    return f"{escape(_pair(change, write))}<small>{words.left(change)}</small>"


def _time(change: Change | None) -> str:
    if change is None:
        return ""
    if change.before == change.after:
        return words.milliseconds(change.before)
    return f"{_pair(change, words.milliseconds)}<small>{words.speed(change)}</small>"


def _note(report: Findings) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report.versions.items()))
    return (
        "MACs and milliseconds are those of one run on the inputs named above. Kernel error and "
        "output error are relative changes of the layer's own kernel and output; the network's "
        "error is what replacing this layer alone changed at the network's output, before the "
        f"corrections. {versions}."
    )
