"""A kernel as a tensor network: its factors and their modes, sizes, partitions, ranks and costs.

Imports nothing of the other rooms. Used by all; authors of formats and implementations too.
"""

from .contraction import Contraction, Modes, check_modes, plan_contraction
from .cut import Cut, cuts
from .exact import clip
from .geometry import Geometry
from .network import GROUP, IN, OUT, KernelNetwork, spatial_modes
from .partition import Partition, Roles, cheapest_partition, is_partition, partition_macs, roles
from .rank import WANTED, Energy, Error, Multiple, check_size, is_budget, spend

__all__ = [
    "GROUP",
    "IN",
    "OUT",
    "WANTED",
    "Contraction",
    "Cut",
    "Energy",
    "Error",
    "Geometry",
    "KernelNetwork",
    "Modes",
    "Multiple",
    "Partition",
    "Roles",
    "cheapest_partition",
    "check_modes",
    "check_size",
    "clip",
    "cuts",
    "is_budget",
    "is_partition",
    "partition_macs",
    "plan_contraction",
    "roles",
    "spatial_modes",
    "spend",
]
