"""A kernel as a tensor network: its factors and their modes, sizes, partitions, ranks and costs.

Imports nothing of the other rooms. Used by all; authors of formats and implementations too.
"""

from .added import KernelSum, parts_of, terms_of
from .cheapest import ELEMENT, cheapest_partition
from .contraction import Contraction, Modes, check_modes, plan_contraction
from .cut import Cut, cuts
from .exact import clip
from .geometry import Geometry
from .inner import inner_product, squared_norm
from .network import GROUP, IN, OUT, KernelNetwork, is_open, opens_of, spatial_modes, with_group
from .partition import Partition, Roles, is_partition, partition_macs, roles
from .rank import WANTED, Energy, Error, Multiple, check_size, is_budget, spend
from .slicing import Slice, slice_layers
from .split import balanced

__all__ = [
    "ELEMENT",
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
    "KernelSum",
    "Modes",
    "Multiple",
    "Partition",
    "Roles",
    "Slice",
    "balanced",
    "cheapest_partition",
    "check_modes",
    "check_size",
    "clip",
    "cuts",
    "inner_product",
    "is_budget",
    "is_open",
    "is_partition",
    "opens_of",
    "partition_macs",
    "parts_of",
    "plan_contraction",
    "roles",
    "slice_layers",
    "spatial_modes",
    "spend",
    "squared_norm",
    "terms_of",
    "with_group",
]
