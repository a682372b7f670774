"""What a compression says itself: that its network is slower, where the budget asks for that."""

from __future__ import annotations

import sys

from .findings import Findings


def in_words(report: Findings) -> str | None:
    """How fast the network is, which layers cost it, and what to ask for; None where it is fast."""
    if report.slower is None or report.milliseconds is None:
        return None
    before, after = report.milliseconds.before, report.milliseconds.after
    names = report.slower.layers
    layers = ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
    costly = f"layer {layers} costs" if len(names) == 1 else f"layers {layers} cost"
    cost = f"{costly} more than dense there" if names else "no layer alone costs it"
    remedy = "no budget was found at which it is faster"
    if report.slower.budget is not None:
        remedy = f"budget={report.slower.budget:.3g} is the smallest found at which it is faster"
    maps = report.runtime == "eager" and any(len(one.shape) > 3 for one in report.layers)
    format_ = ", each in its better memory format" if maps else ""
    return (
        f"the compressed network takes {after:.3g} ms and the original {before:.3g} ms on "
        f"{report.device}, {report.threads} threads{format_}: {cost}; {remedy}"
    )


def say(report: Findings) -> None:
    """Say it on the standard error, where there is something to say."""
    words = in_words(report)
    if words is not None:
        sys.stderr.write(f"tenfold: {words}\n")
