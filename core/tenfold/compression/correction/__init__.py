"""The chosen network brought closer to the original: layers refitted, normalisations measured anew.

Imports `moments`, `candidates` and `measurement`. Used by the engine.
"""

from .finishing import Finisher, Made

__all__ = [
    "Finisher",
    "Made",
]
