"""What the layers see: sampled patches, their moments, the norm these make, what outputs are worth.

Imports `running` and `survey`. Used by `candidates` and `correction`.
"""

from .gathering import WIDE, effective, groups_within, is_wide, measure
from .importance import Importance
from .norm import Norm, Seen
from .patches import Patches
from .sampling import FEW, Sampling, plenty
from .worth import weighed

__all__ = [
    "FEW",
    "WIDE",
    "Importance",
    "Norm",
    "Patches",
    "Sampling",
    "Seen",
    "effective",
    "groups_within",
    "is_wide",
    "measure",
    "plenty",
    "weighed",
]
