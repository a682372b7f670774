"""Convolutions by tensor factorization: any format, run any way, both chosen by name.

from tenfold import FactorizedConv

layer = FactorizedConv.from_conv(conv, rank=0.25, factorization="tucker")
"""

from importlib.metadata import version

from .acceleration import Descent, accelerate, count_sweep
from .achieved import Decomposition, decompose
from .als import alternating_least_squares
from .catalogue import PluginError
from .compression import Compression, CompressionConfig, compress, distill, load, save
from .contraction import Contraction, plan_contraction
from .conv import FactorizedConv
from .decomposition import relative_error
from .factorization import Factorization
from .geometry import Geometry
from .hooks import hookimpl
from .implementation import Fixed, Implementation
from .kernel import FactorizedKernel
from .moment import Moment, measure_moments
from .network import KernelNetwork
from .partition import Partition, Roles, cheapest_partition, partition_macs, roles
from .plain_model import to_plain
from .plan import Plan, Prepared
from .rank import Energy, Error, Multiple, is_budget
from .registry import factorizations, implementations
from .spectrum import bond_matrix
from .svd import chain_svd, leading_basis
from .tuning.decision import Decision
from .tuning.model import tune

__version__ = version("tenfold")

__all__ = [
    "Compression",
    "CompressionConfig",
    "Contraction",
    "Decision",
    "Decomposition",
    "Descent",
    "Energy",
    "Error",
    "Factorization",
    "FactorizedConv",
    "FactorizedKernel",
    "Fixed",
    "Geometry",
    "Implementation",
    "KernelNetwork",
    "Moment",
    "Multiple",
    "Partition",
    "Plan",
    "PluginError",
    "Prepared",
    "Roles",
    "accelerate",
    "alternating_least_squares",
    "bond_matrix",
    "chain_svd",
    "cheapest_partition",
    "compress",
    "count_sweep",
    "decompose",
    "distill",
    "factorizations",
    "hookimpl",
    "implementations",
    "is_budget",
    "leading_basis",
    "load",
    "measure_moments",
    "partition_macs",
    "plan_contraction",
    "relative_error",
    "roles",
    "save",
    "to_plain",
    "tune",
]
