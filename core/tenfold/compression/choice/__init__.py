"""Which candidate for which layer: a knapsack over what was measured, checked on the network.

Imports `candidates` and `measurement`. Used by the engine.
"""

from .plan import Choices, Plan, applied, assemble
from .refinement import Trial, refined, smallest

__all__ = [
    "Choices",
    "Plan",
    "Trial",
    "applied",
    "assemble",
    "refined",
    "smallest",
]
