"""The demo's table and its plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from .run import BATCH, Measured


def demo_table(found: Sequence[Measured], rank: Any) -> Table:
    """One row for each network, each number beside the dense one's."""
    dense = found[0]
    dense_macs = dense.macs or 1
    threads = torch.get_num_threads()
    shown = Table(
        title=f"Fashion-MNIST, 2,000 test images; rank={rank}, nothing fine-tuned",
        caption="Beside each number the dense network's: points, a fraction, a speed-up.\n"
        f"MACs: for one image. ms: for {BATCH} images, on {threads} "
        f"thread{'s' if threads > 1 else ''}, median, in turn.\n"
        "The first convolution, 0.1 % of the parameters, stays dense.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    shown.add_column("network", no_wrap=True)
    for title in ("accuracy", "k params", "M MACs", "ms/batch", "kernel error"):
        shown.add_column(title, justify="right", no_wrap=title != "kernel error")
    last = ""
    for one in found:
        factorization, _, implementation = one.name.partition(" ")
        if implementation and factorization != last:
            shown.add_row(factorization)
        last = factorization
        speed = one.dense_milliseconds / one.milliseconds
        macs = "–" if one.macs is None else f"{one.macs / 1e6:.1f} {one.macs / dense_macs:.2f}×"
        shown.add_row(
            f"  {implementation}" if implementation else one.name,
            f"{one.accuracy:.1%} {100 * (one.accuracy - dense.accuracy):+.1f}",
            f"{one.parameters / 1e3:.0f} {one.parameters / dense.parameters:.2f}×",
            macs,
            f"{one.milliseconds:.1f} {speed:.2f}×",
            f"{one.error:.3f}",
        )
    return shown


def draw_demo(found: Sequence[Measured], path: Path) -> None:
    """Draw accuracy against MACs.

    Raises `ImportError` without matplotlib, and `ValueError` for a file type it cannot write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    marks = {"reconstructed": "s", "factorized": "o", "mobilenet": "^"}
    formats = sorted({one.name.split()[0] for one in found[1:]})
    dense = found[0]
    axes.axhline(100 * dense.accuracy, color="0.8", linewidth=1, zorder=0)
    axes.plot((dense.macs or 0) / 1e6, 100 * dense.accuracy, "k*", markersize=13, label="dense")
    for one in found[1:]:
        if one.macs is None:
            continue
        factorization, implementation = one.name.split()
        axes.plot(
            one.macs / 1e6,
            100 * one.accuracy,
            marks.get(implementation, "D"),
            color=f"C{formats.index(factorization)}",
            markerfacecolor="none" if implementation == "reconstructed" else None,
            label=one.name,
        )
    axes.set_xlabel("multiply-accumulates of the replaced convolutions, for one image (millions)")
    axes.set_ylabel("accuracy on 2,000 test images (%)")
    axes.set_xlim(left=0)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
