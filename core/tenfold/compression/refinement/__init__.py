"""The network trained a little, towards what the original gives at the ends of its blocks.

Imports `correction` and what is before it. Used by the engine.
"""

from .ends import Kept
from .refining import refine

__all__ = [
    "Kept",
    "refine",
]
