"""What candidates do: the change of the network's output, a score, milliseconds.

Imports `candidates` and what is before it. Used by `choice` and `correction`.
"""

from .latency import time_layer, time_networks
from .task import Evaluate, Judge, Task, interpolated, score

__all__ = [
    "Evaluate",
    "Judge",
    "Task",
    "interpolated",
    "score",
    "time_layer",
    "time_networks",
]
