"""What there is: the network's layers, which may change, the calibration, what is held out.

Imports `running`. Used by every later stage.
"""

from .calibration import divide
from .doubts import doubts
from .layers import Layer, chosen, select, survey

__all__ = [
    "Layer",
    "chosen",
    "divide",
    "doubts",
    "select",
    "survey",
]
