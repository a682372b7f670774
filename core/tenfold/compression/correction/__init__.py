"""The chosen network brought closer to the original: layers refitted, normalisations measured anew.

Imports `moments`, `candidates` and `measurement`. Used by the engine.
"""

from .answers import Answers
from .blocks import looked
from .finishing import Finisher, Made

__all__ = [
    "Answers",
    "Finisher",
    "Made",
    "looked",
]
