"""What there is: the network's layers, which may change, the calibration, what is held out.

Imports `running`. Used by every later stage.
"""

from .behaviour import observe
from .calibration import divide, filled
from .layers import Layer, chosen, select, staying, survey

__all__ = [
    "Layer",
    "chosen",
    "divide",
    "filled",
    "observe",
    "select",
    "staying",
    "survey",
]
