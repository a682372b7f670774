"""The modules: `FactorizedConv`, `FactorizedKernel`, their arguments, sources and plain forms.

Imports the rooms of kernels, solvers, plans and tuning. Used by all that works on whole models.
"""

from ..run import PLAIN, TRANSPOSED
from .achieved import Decomposition, decompose
from .config import ConvConfig
from .conv import FactorizedConv
from .embedding import FactorizedEmbedding
from .forward import Forward
from .heads import TensorContraction, TensorRegression
from .holding import exchange
from .joining import Joined
from .joint import JointConv
from .kernel import FactorizedKernel
from .linear import FactorizedLinear
from .member import Member
from .moment import Moment, unfold
from .plain import plain_form
from .plain_forms import PlainForms
from .rerunning import rerun
from .reshaping import Reshaping
from .source import copy_state, read_config, read_kernel, swap_channels
from .spectral import check_init, evened
from .standing import factorized_layers, kernel_of

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
    "Member",
    "Moment",
    "PlainForms",
    "Reshaping",
    "TensorContraction",
    "TensorRegression",
    "check_init",
    "copy_state",
    "decompose",
    "evened",
    "exchange",
    "factorized_layers",
    "kernel_of",
    "plain_form",
    "read_config",
    "read_kernel",
    "rerun",
    "swap_channels",
    "unfold",
]
