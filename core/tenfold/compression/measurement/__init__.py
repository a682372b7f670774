"""What candidates do: the change of the network's output, a score, milliseconds.

Imports `candidates` and what is before it. Used by `choice` and `correction`.
"""

from .latency import time_layer, time_networks
from .measuring import PASSES, SCORES, few, levels_of
from .prediction import calibrated, interpolated
from .task import Evaluate, Judge, Task, score

__all__ = [
    "PASSES",
    "SCORES",
    "Evaluate",
    "Judge",
    "Task",
    "calibrated",
    "few",
    "interpolated",
    "levels_of",
    "score",
    "time_layer",
    "time_networks",
]
