"""The chosen network brought closer to the original: layers refitted, normalisations measured anew.

Imports `moments`, `candidates` and `measurement`. Used by the engine.
"""

from .normalisation import recalibrate
from .refit import correct

__all__ = [
    "correct",
    "recalibrate",
]
