"""What there is: the network's layers, which may change, the calibration, what is held out.

Imports `running`. Used by every later stage.
"""

from .calibration import divide, thinned
from .layers import Layer, chosen, select, survey
from .parting import neighbours
from .subject import Subject, surveyed

__all__ = [
    "Layer",
    "Subject",
    "chosen",
    "divide",
    "neighbours",
    "select",
    "survey",
    "surveyed",
    "thinned",
]
