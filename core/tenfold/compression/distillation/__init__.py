"""A compressed network trained towards the original's outputs, in one process or several.

Imports `running`. Used by the public `distill`.
"""

from .distilling import distill

__all__ = [
    "distill",
]
