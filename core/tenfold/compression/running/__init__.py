"""A user's network run without disturbing it: calls, copies, outputs compared, workers, progress.

Imports nothing of ours. Used by every stage of a compression.
"""

from .batches import Part, check_call, check_part, check_runs, parted
from .inference import (
    Batch,
    Difference,
    batched,
    call,
    change,
    check_finite,
    check_weights,
    copied,
    evaluating,
    hooked,
    outputs,
    shapes,
    tensors,
    undisturbed,
    walk,
)
from .progress import Progress, shown
from .workers import run_all

__all__ = [
    "Batch",
    "Difference",
    "Part",
    "Progress",
    "batched",
    "call",
    "change",
    "check_call",
    "check_finite",
    "check_part",
    "check_runs",
    "check_weights",
    "copied",
    "evaluating",
    "hooked",
    "outputs",
    "parted",
    "run_all",
    "shapes",
    "shown",
    "tensors",
    "undisturbed",
    "walk",
]
