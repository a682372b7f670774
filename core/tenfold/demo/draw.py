"""The demo's plot: accuracy against multiply-accumulates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .measured import BATCH, JUDGED, Measured, Setting

TEAL, GREY, INK = "#0f766e", "#94a3b8", "#0f172a"
APART = 0.042  # of the axis' height, between two labels


def draw_demo(
    networks: Sequence[Measured], formats: Sequence[Measured], setting: Setting, path: Path
) -> None:
    """Draw the compressed networks as a curve from the original, and single formats as points.

    Raises `ImportError` without matplotlib, and `ValueError` for a file type it cannot write.
    """
    from matplotlib.figure import Figure

    original, last = networks[0], networks[-1]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    counted = [one for one in formats if one.macs is not None]
    places = {one.name: _place(one, original) for one in (*networks, *counted)}
    axes.plot(*zip(*(places[one.name] for one in networks), strict=True), "-", color=TEAL, lw=2)
    for one in networks:
        axes.plot(*places[one.name], "*" if one is original else "o", color=TEAL, ms=11)
    for one in counted:
        axes.plot(*places[one.name], "o", color=GREY, ms=6)
    low = min(y for _, y in places.values())
    high = max(y for _, y in places.values())
    axes.set_ylim(low - 0.12 * (high - low) - 0.5, high + 0.15 * (high - low) + 0.5)
    axes.set_xlim(0, 112)
    for one in networks:
        axes.annotate(
            _words(one, original),
            places[one.name],
            (0, 10),
            textcoords="offset points",
            ha="center",
            color=TEAL,
            fontsize=9,
            fontweight="bold",
        )
    _label(axes, {one.name: places[one.name] for one in counted})
    axes.set_title(_title(original, last), loc="left", fontsize=12, fontweight="bold", color=INK)
    axes.set_xlabel(f"MACs of the whole network on {BATCH} images, % of the original's")
    axes.set_ylabel(f"accuracy on {JUDGED:,} test images, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e2e8f0", lw=0.8)
    axes.set_axisbelow(True)
    note = (
        "grey: one format alone, nothing corrected or fine-tuned. × is times as fast, measured in "
        f"turn with the original on {setting.place}"
    )
    figure.supxlabel(note, fontsize=7, color=GREY, x=0.99, ha="right")
    figure.savefig(path, dpi=150)


def _title(original: Measured, last: Measured) -> str:
    left = (last.macs or 0) / (original.macs or 1)
    return (
        f"Fashion-MNIST with {left:.0%} of the MACs: {last.accuracy:.1%} instead of "
        f"{original.accuracy:.1%},\n{last.speed:.1f} times as fast"
    )


def _place(one: Measured, original: Measured) -> tuple[float, float]:
    return 100 * (one.macs or 0) / (original.macs or 1), 100 * one.accuracy


def _words(one: Measured, original: Measured) -> str:
    if one is original:
        return f"original\n{one.accuracy:.1%}"
    return f"compress\n{one.accuracy:.1%}, {one.speed:.2f}×"


def _label(axes: Any, places: dict[str, tuple[float, float]]) -> None:
    """Name each point at its right, the names moved down as far as they would overlap."""
    low, high = axes.get_ylim()
    taken: list[tuple[float, float]] = []
    for name, (x, y) in sorted(places.items(), key=lambda one: -one[1][1]):
        at = y
        while any(abs(x - u) < 22 and abs(at - v) < APART * (high - low) for u, v in taken):
            at -= 0.2 * APART * (high - low)
        taken.append((x, at))
        axes.annotate(
            name,
            (x, y),
            (x + 1.5, at),
            va="center",
            fontsize=8,
            color="#475569",
        )
