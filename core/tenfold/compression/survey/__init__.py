"""What there is: the network's layers, which may change, the calibration, what is held out.

Imports `running`. Used by every later stage.
"""

from .behaviour import observe
from .calibration import divide, filled, pieces, thinned
from .layer import Layer
from .layers import listed, survey
from .layout import SAME, format_of, maps_last
from .parting import neighbours
from .selection import chosen, select, staying
from .subject import Subject, surveyed
from .trust import doubts

__all__ = [
    "SAME",
    "Layer",
    "Subject",
    "chosen",
    "divide",
    "doubts",
    "filled",
    "format_of",
    "listed",
    "maps_last",
    "neighbours",
    "observe",
    "pieces",
    "select",
    "staying",
    "survey",
    "surveyed",
    "thinned",
]
