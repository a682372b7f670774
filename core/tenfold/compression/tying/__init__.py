"""Layers alike, tied into one network with a mode for the layers, where that pays.

Imports `choice` and what is before it. Used by `correction` and the engine.
"""

from .pooled import joined
from .tie import Tie, assembled
from .tying import tied

__all__ = [
    "Tie",
    "assembled",
    "joined",
    "tied",
]
