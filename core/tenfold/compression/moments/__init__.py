"""What the layers see: sampled patches, their moments, the norm these make, what outputs are worth.

Imports `running` and `survey`. Used by `candidates` and `correction`.
"""

from .gathering import WIDE, Moments, drawn, effective, groups_within, is_wide, measure
from .importance import Importance
from .norm import Norm, Seen
from .patches import Patches
from .sampling import Sampling, available
from .visit import Look, Visit
from .worth import weighed

__all__ = [
    "WIDE",
    "Importance",
    "Look",
    "Moments",
    "Norm",
    "Patches",
    "Sampling",
    "Seen",
    "Visit",
    "available",
    "drawn",
    "effective",
    "groups_within",
    "is_wide",
    "measure",
    "weighed",
]
