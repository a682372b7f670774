"""What candidates do: the change of the network's output, a score, milliseconds.

Imports `candidates` and what is before it. Used by `choice` and `correction`.
"""

from .elsewhere import time_elsewhere
from .in_place import Side, better, lay_last, time_in_place
from .judges import Judges
from .latency import EAGER, settle, time_networks
from .measuring import measured
from .prediction import calibrated, interpolated
from .replay import Replay
from .task import Evaluate, Judge, Task, score

__all__ = [
    "EAGER",
    "Evaluate",
    "Judge",
    "Judges",
    "Replay",
    "Side",
    "Task",
    "better",
    "calibrated",
    "interpolated",
    "lay_last",
    "measured",
    "score",
    "settle",
    "time_elsewhere",
    "time_in_place",
    "time_networks",
]
