"""A report as one page of HTML that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from . import chart, words
from .findings import Change, Findings, LayerReport

STYLE = """
:root { color-scheme: light; --ink: #0f172a; --soft: #64748b; --line: #e2e8f0; --teal: #0f766e; }
* { box-sizing: border-box; }
body { margin: 0; background: #f8fafc; color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; letter-spacing: -0.02em; }
h2 { font-size: 18px; margin: 40px 0 12px; }
p { margin: 0 0 8px; color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin-top: 24px; }
.card, .panel { background: #fff; border: 1px solid var(--line); border-radius: 10px; }
.card { padding: 14px 16px; }
.card small { color: var(--soft); display: block; }
.card b { font-size: 26px; font-weight: 650; color: var(--teal); letter-spacing: -0.02em; }
.panel { padding: 16px; overflow-x: auto; }
.panel svg { display: block; width: 100%; height: auto; max-width: 1000px; margin: 0 auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px;
  font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 550; white-space: nowrap; }
th, td { padding: 6px 8px; border-bottom: 1px solid var(--line); vertical-align: top; }
.n { text-align: right; white-space: nowrap; }
tr.dense td, tr.dense small { color: #94a3b8; }
.dense code { opacity: 0.8; }
tfoot td { font-weight: 650; border-top: 2px solid var(--line); border-bottom: 0; }
td code { font: 12px ui-monospace, monospace; overflow-wrap: anywhere; }
td small { color: var(--soft); display: block; }
@media print { body { background: #fff; } .panel { overflow: visible; } }
"""


LEFT = ("Layer", "Format", "Rank")
ERRORS = ("Kernel error", "Output error", "Network's error")
TITLES = (*LEFT, "Parameters", "MACs", "ms", *ERRORS)


def page(report: Findings) -> str:
    """The whole document. Raises `ImportError` without matplotlib, which draws the charts."""
    curve = ""
    if report.curve:
        curve = f"<h2>Error against budget</h2><div class=panel>{chart.svg_curve(report)}</div>"
    return f"""<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<title>A compressed network</title>
<style>{STYLE}</style>
<main>
<h1>{escape(_headline(report))}</h1>
<p>Asked for: {escape(words.aim(report))}; {escape(words.WEIGHED[report.objective])}.
{escape(words.advice(report) or "")}</p>
<div class=cards>{_cards(report)}</div>
<h2>Where the budget went</h2>
<div class=panel>{chart.svg_layers(report)}</div>
{curve}
<h2>Layers</h2>
<div class=panel>{_table(report)}</div>
<p style="margin-top:12px">{escape(_note(report))}</p>
</main>
</html>
"""


def _headline(report: Findings) -> str:
    change = {"parameters": report.parameters, "macs": report.macs, "latency": report.milliseconds}
    counted = change[report.metric]
    if counted is None:
        return "A compressed network"
    words_ = {"parameters": "fewer parameters", "macs": "fewer MACs", "latency": "faster"}
    return f"{words.fewer(counted)} {words_[report.metric]}"


def _cards(report: Findings) -> str:
    cards = [
        _card("Parameters", words.fewer(report.parameters), _pair(report.parameters, words.short)),
        _card("MACs", words.fewer(report.macs), _pair(report.macs, words.short)),
    ]
    if report.milliseconds is not None:
        pair = _pair(report.milliseconds, words.milliseconds)
        threads = f"{report.threads} thread{'s' if report.threads > 1 else ''}"
        cards.append(_card("Speed", words.fewer(report.milliseconds), f"{pair} ms, {threads}"))
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


def _pair(change: Change, write: Callable[[float], str]) -> str:
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
    run = "" if below is None else f"<small>{escape(below)}</small>"
    cells = (
        f"<td><code>{escape(layer.name)}</code>{kind}",
        f"<td>{escape(layer.factorization or ('dense' if layer.shape else '–'))}{run}",
        f"<td style='white-space:nowrap'>{words.rank(layer)}",
        _change(layer.parameters, words.short),
        _change(layer.macs, words.short),
        _change(layer.milliseconds, words.milliseconds),
        *(_error(one, dense) for one in (layer.kernel_error, layer.output_error, layer.error)),
    )
    return f"<tr{' class=dense' if dense else ''}>{''.join(cells)}"


def _totals(report: Findings) -> str:
    cells = (
        "<td>Network<td><td>",
        _change(report.parameters, words.short),
        _change(report.macs, words.short),
        _change(report.milliseconds, words.milliseconds),
        "<td><td>",
        _error(report.error, False),
    )
    return f"<tr>{''.join(cells)}"


def _change(change: Change | None, write: Callable[[float], str]) -> str:
    if change is None:
        return "<td class=n>–"
    if change.before == change.after:
        return f"<td class=n>{escape(write(change.before))}"
    return f"<td class=n>{escape(_pair(change, write))}<small>{words.fraction(change)}</small>"


def _error(error: float, dense: bool) -> str:
    return f"<td class=n>{'' if dense else words.error(error)}"


def _note(report: Findings) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report.versions.items()))
    return (
        "Kernel error and output error are relative changes of the layer's own kernel and output; "
        "the network's error is what replacing this layer alone changed at the network's output, "
        "before the corrections. "
        f"{versions}."
    )
