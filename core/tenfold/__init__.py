"""Convolutions by tensor factorization: any format, run any way, both chosen by name.

from tenfold import FactorizedConv

layer = FactorizedConv.from_conv(conv, rank=0.25, factorization="tucker")

Here is what builds layers and compresses networks. What a format or an implementation is written
with is in `tenfold.network`, `tenfold.algebra` and `tenfold.plugin`; what tests one, in
`tenfold.testing`.
"""

from importlib.metadata import version

from .compression import (
    Compression,
    CompressionConfig,
    Sensitivity,
    compress,
    distill,
    load,
    save,
)
from .compression import measure_layers as survey
from .deployment import Exported, export
from .layer import (
    Decomposition,
    FactorizedConv,
    FactorizedEmbedding,
    FactorizedKernel,
    FactorizedLinear,
    JointConv,
    Moment,
    TensorContraction,
    TensorRegression,
    decompose,
)
from .model import measure_moments, to_onnx, to_plain, tune
from .network import Energy, Error, Multiple
from .optim import SOAP
from .plugin import (
    Factorization,
    Fixed,
    Implementation,
    PluginError,
    Runtime,
    factorizations,
    hookimpl,
    implementations,
    runtimes,
)
from .solve import relative_error
from .tensor import FactorizedTensor
from .training import (
    Cuttlefish,
    RankSchedule,
    decoupled_decay,
    factorize,
    frobenius_decay,
    parameter_groups,
    set_rank,
)
from .tuning import Decision

__version__ = version("tenfold")

__all__ = [
    "SOAP",
    "Compression",
    "CompressionConfig",
    "Cuttlefish",
    "Decision",
    "Decomposition",
    "Energy",
    "Error",
    "Exported",
    "Factorization",
    "FactorizedConv",
    "FactorizedEmbedding",
    "FactorizedKernel",
    "FactorizedLinear",
    "FactorizedTensor",
    "Fixed",
    "Implementation",
    "JointConv",
    "Moment",
    "Multiple",
    "PluginError",
    "RankSchedule",
    "Runtime",
    "Sensitivity",
    "TensorContraction",
    "TensorRegression",
    "compress",
    "decompose",
    "decoupled_decay",
    "distill",
    "export",
    "factorizations",
    "factorize",
    "frobenius_decay",
    "hookimpl",
    "implementations",
    "load",
    "measure_moments",
    "parameter_groups",
    "relative_error",
    "runtimes",
    "save",
    "set_rank",
    "survey",
    "to_onnx",
    "to_plain",
    "tune",
]
