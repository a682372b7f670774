"""How long one call of `tenfold.compress` takes, defaults, beside the time that it may take.

Used by `compression.py --timed`. Nothing is read from a table: every call measures all anew. What
is imported at the first call is not counted. ResNet-50 and `r3d_18` have random weights.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from depth import CASES
from networks import NETWORKS
from rich.table import Table
from torch import nn

import tenfold

# Seconds on two quiet threads, and the budget.
BARS = {
    "demo": (6, 0.2),
    "deeplc": (12, 0.25),
    "crepe": (50, 0.25),
    "hed": (100, 1 / 6),
    "resnet50": (300, 0.25),
    "r3d_18": (300, 0.25),
    "linear": (0.3, 0.0),
}
SIDE, RANK = 4096, 64  # of the linear layer


def timed(name: str, refine: str) -> dict[str, Any]:
    """One call: seconds, those of the processor, passes, the score where there is one, memory."""
    call, score = called(name, refine)
    wall, cpu = time.perf_counter(), time.process_time()
    made = call()
    row: dict[str, Any] = {
        "seconds": time.perf_counter() - wall,
        "CPU s": time.process_time() - cpu,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    if isinstance(made, tenfold.Compression):
        speed = made.report.milliseconds
        row |= {"passes": made.report.passes, "error": made.report.error}
        row |= {} if speed is None else {"faster": speed.before / speed.after}
        row |= {} if score is None else {"score": score(made.model)}
    return row


def called(name: str, refine: str) -> tuple[Callable[[], Any], Callable[[nn.Module], float] | None]:
    """What is timed, and what scores the network that comes of it."""
    torch.manual_seed(0)
    budget = BARS[name][1]
    if name == "linear":
        layer = nn.Linear(SIDE, SIDE)
        return lambda: tenfold.FactorizedConv.from_conv(layer, rank=RANK), None
    if name in NETWORKS:
        network = NETWORKS[name]()
        model, example, batches = network.model, network.example_inputs, network.calibration
        score = network.score
    else:
        (model, batches), score = CASES[name](), None
        example = batches[0]
    options: dict[str, Any] = {"example_inputs": example, "calibration": batches, "refine": refine}
    return lambda: tenfold.compress(model, budget=budget, progress=False, **options), score


def table(names: list[str], threads: int, refine: str) -> Table:
    """All of them, each with its bar."""
    torch.set_num_threads(threads)
    tiny = nn.Sequential(nn.Conv2d(4, 16, 3))
    tenfold.compress(tiny, budget=0.5, example_inputs=torch.randn(2, 4, 8, 8), progress=False)
    shown = Table(title=f"torch {torch.__version__}, {threads} threads")
    columns = ("seconds", "bar", "CPU s", "passes", "error", "score", "faster", "peak GB")
    for title in ("network", *columns):
        shown.add_column(title, justify="left" if title == "network" else "right")
    for name in names:
        row = {**timed(name, refine), "bar": BARS[name][0]}
        shown.add_row(name, *(f"{row[one]:.4g}" if one in row else "" for one in columns))
    return shown
