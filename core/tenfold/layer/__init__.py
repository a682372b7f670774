"""The modules: `FactorizedConv`, `FactorizedKernel`, their arguments, sources and plain forms.

Imports the rooms of kernels, solvers, plans and tuning. Used by all that works on whole models.
"""

from .achieved import Decomposition, decompose
from .another_kernel import rekernel
from .config import ConvConfig
from .conv import FactorizedConv
from .embedding import FactorizedEmbedding
from .forward import Forward
from .heads import TensorContraction, TensorRegression
from .joining import Joined
from .joint import JointConv
from .kernel import FactorizedKernel
from .linear import FactorizedLinear
from .moment import Moment, products, unfold
from .rerunning import rerun
from .reshaping import Reshaping
from .source import PLAIN, TRANSPOSED, copy_state, read_config, read_kernel, swap_channels

__all__ = [
    "PLAIN",
    "TRANSPOSED",
    "ConvConfig",
    "Decomposition",
    "FactorizedConv",
    "FactorizedEmbedding",
    "FactorizedKernel",
    "FactorizedLinear",
    "Forward",
    "Joined",
    "JointConv",
    "Moment",
    "Reshaping",
    "TensorContraction",
    "TensorRegression",
    "copy_state",
    "decompose",
    "products",
    "read_config",
    "read_kernel",
    "rekernel",
    "rerun",
    "swap_channels",
    "unfold",
]
