"""Which way of running is fastest here: measured, decided, and kept between runs.

Imports `network`, `plugin` and `run`. Used by layers, and by all that times something.
"""

from .cache import CACHE, cache_folder, clear
from .decision import Decision, way_in_words
from .elsewhere import EAGER, engine, worker
from .timing import Timing, clock, in_turn
from .tuner import Subject, decide, device_name, may_measure

__all__ = [
    "CACHE",
    "EAGER",
    "Decision",
    "Subject",
    "Timing",
    "cache_folder",
    "clear",
    "clock",
    "decide",
    "device_name",
    "engine",
    "in_turn",
    "may_measure",
    "way_in_words",
    "worker",
]
