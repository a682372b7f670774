"""Which candidate for which layer: a knapsack over what was measured, checked on the network.

Imports `candidates` and `measurement`. Used by the engine.
"""

from .plan import FLOAT, Choices, Plan, applied, assemble, unreachable
from .refinement import Trial, refined, smallest
from .speed import CLEAR, Quick, Watch, fast, quick, slower, told

__all__ = [
    "CLEAR",
    "FLOAT",
    "Choices",
    "Plan",
    "Quick",
    "Trial",
    "Watch",
    "applied",
    "assemble",
    "fast",
    "quick",
    "refined",
    "slower",
    "smallest",
    "told",
    "unreachable",
]
