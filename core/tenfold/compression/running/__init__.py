"""A user's network run without disturbing it: calls, copies, outputs compared, workers, progress.

Imports nothing of ours. Used by every stage of a compression.
"""

from .counting import Runs, counted, size
from .inference import (
    Batch,
    Difference,
    batched,
    call,
    change,
    check_call,
    check_finite,
    copied,
    evaluating,
    hooked,
    members,
    outputs,
    shapes,
    tensors,
    undisturbed,
)
from .progress import Progress, shown
from .workers import run_all

__all__ = [
    "Batch",
    "Difference",
    "Progress",
    "Runs",
    "batched",
    "call",
    "change",
    "check_call",
    "check_finite",
    "copied",
    "counted",
    "evaluating",
    "hooked",
    "members",
    "outputs",
    "run_all",
    "shapes",
    "shown",
    "size",
    "tensors",
    "undisturbed",
]
