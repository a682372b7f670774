"""A user's network run without disturbing it: calls, copies, outputs compared, workers, progress.

Imports `plugin` and `tuning`. Used by every stage of a compression.
"""

from .batches import Part, check_call, check_part, check_runs, parted
from .columns import turn_columns
from .counting import Runs, counted, size
from .difference import Difference, change, of_their_mean
from .inference import (
    Batch,
    arguments_of,
    as_users_run,
    batched,
    call,
    check_finite,
    check_weights,
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
from .ready import Flat, inputs_of, placed, prepared
from .workers import run_all

__all__ = [
    "Batch",
    "Difference",
    "Flat",
    "Part",
    "Progress",
    "Runs",
    "arguments_of",
    "as_users_run",
    "batched",
    "call",
    "change",
    "check_call",
    "check_finite",
    "check_part",
    "check_runs",
    "check_weights",
    "copied",
    "counted",
    "evaluating",
    "hooked",
    "inputs_of",
    "members",
    "of_their_mean",
    "outputs",
    "parted",
    "placed",
    "prepared",
    "run_all",
    "shapes",
    "shown",
    "size",
    "tensors",
    "turn_columns",
    "undisturbed",
]
