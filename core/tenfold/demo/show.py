"""The demo's two tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from .budgets import CALIBRATION
from .measured import BATCH, JUDGED, Measured, Setting

if TYPE_CHECKING:
    from rich.table import Table


def budgets_table(found: Sequence[Measured], setting: Setting) -> Table:
    """The original and the network of each budget."""
    original = found[0]
    shown = _table(
        f"A trained network, compressed: Fashion-MNIST, {JUDGED:,} test images",
        f'By tenfold.compress, refine="off", from {CALIBRATION} images without labels.\n'
        f"MACs and ms: of the whole network on a batch of {BATCH} images, on\n"
        f"{setting.place}. speed: times as fast as the\n"
        "original, measured in turn.",
        ("network", "accuracy", "parameters", "MACs", "ms", "speed"),
    )
    for one in found:
        dense = one is original
        shown.add_row(
            one.name,
            _accuracy(one, original),
            f"{one.parameters / 1e3:.0f} k" + _part(one.parameters, original.parameters),
            f"{(one.macs or 0) / 1e6:,.0f} M" + _part(one.macs or 0, original.macs or 1),
            f"{one.milliseconds:.1f}",
            "" if dense else f"{one.speed:.2f}×",
        )
    return shown


def formats_table(found: Sequence[Measured], original: Measured, rank: Any) -> Table:
    """One row for each format, or for each pair, beside the original."""
    shown = _table(
        f"The same network in one format alone, rank={rank}, nothing corrected",
        "convolutions: what a 3×3 one became, the first staying dense;\n"
        "params, MACs: what is left; speed: times as fast as the original.",
        ("format", "convolutions", "accuracy", "params", "MACs", "speed"),
    )
    last = ""
    for one in found:
        name, _, way = one.name.partition(" ")
        if way and name != last:
            shown.add_row(name)
        last = name
        shown.add_row(
            f"  {way}" if way else name,
            _sizes(one.chain),
            _accuracy(one, original),
            f"{one.parameters / original.parameters:.0%}",
            "–" if one.macs is None else f"{one.macs / (original.macs or 1):.0%}",
            f"{one.speed:.2f}×",
        )
    return shown


def _table(title: str, caption: str, columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    shown = Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        left = column in ("network", "format", "convolutions")
        shown.add_column(column, justify="left" if left else "right", no_wrap=True)
    return shown


def _sizes(chain: Sequence[tuple[int, ...]]) -> str:
    """The kernels of a chain; of more than two alike in a row their number."""
    found = []
    for size, alike in groupby("×".join(map(str, one)) for one in chain):
        count = len(list(alike))
        found += [f"{count} of {size}"] if count > 2 else [size] * count
    return ", ".join(found)


def _accuracy(one: Measured, original: Measured) -> str:
    if one is original:
        return f"{one.accuracy:.1%}"
    return f"{one.accuracy:.1%} ({100 * (one.accuracy - original.accuracy):+.1f})"


def _part(number: float, whole: float) -> str:
    return "" if number == whole else f" {number / whole:.0%}"
