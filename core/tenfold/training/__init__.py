"""Factorized networks trained from scratch: how they start, are decayed, and change their ranks.

Imports layers, whole models and the survey of compression. Used by nothing of core but its door.
"""

from .cuttlefish import Cuttlefish
from .decay import decoupled_decay, frobenius_decay
from .factorizing import factorize
from .groups import parameter_groups
from .ranks import set_rank
from .schedule import RankSchedule

__all__ = [
    "Cuttlefish",
    "RankSchedule",
    "decoupled_decay",
    "factorize",
    "frobenius_decay",
    "parameter_groups",
    "set_rank",
]
