"""TensorLy-Torch's names: `import tenfold.tltorch as tltorch` runs programs written for it.

Each is what it is here under another name, or says when it is used what to use instead. A program
that imports `tltorch` by itself, as `neuraloperator` does, runs after `tenfold.tltorch.stand_in()`.
"""

from . import factorized_layers, factorized_tensors, functional, tensor_hooks, utils
from .factorized_layers import TCL, TRL, FactorizedConv, FactorizedEmbedding, FactorizedLinear
from .factorized_tensors import (
    BlockTT,
    ComplexBlockTT,
    ComplexCPTensor,
    ComplexCPTensorized,
    ComplexDenseTensor,
    ComplexDenseTensorized,
    ComplexTTTensor,
    ComplexTuckerTensor,
    ComplexTuckerTensorized,
    CPTensor,
    CPTensorized,
    DenseTensor,
    DenseTensorized,
    FactorizedTensor,
    TensorizedTensor,
    TTTensor,
    TuckerTensor,
    TuckerTensorized,
    init,
    tensor_init,
)
from .standing_in import stand_in
from .tensor_hooks import (
    remove_tensor_dropout,
    remove_tensor_lasso,
    tensor_dropout,
    tensor_lasso,
)

__all__ = [
    "TCL",
    "TRL",
    "BlockTT",
    "CPTensor",
    "CPTensorized",
    "ComplexBlockTT",
    "ComplexCPTensor",
    "ComplexCPTensorized",
    "ComplexDenseTensor",
    "ComplexDenseTensorized",
    "ComplexTTTensor",
    "ComplexTuckerTensor",
    "ComplexTuckerTensorized",
    "DenseTensor",
    "DenseTensorized",
    "FactorizedConv",
    "FactorizedEmbedding",
    "FactorizedLinear",
    "FactorizedTensor",
    "TTTensor",
    "TensorizedTensor",
    "TuckerTensor",
    "TuckerTensorized",
    "factorized_layers",
    "factorized_tensors",
    "functional",
    "init",
    "remove_tensor_dropout",
    "remove_tensor_lasso",
    "stand_in",
    "tensor_dropout",
    "tensor_hooks",
    "tensor_init",
    "tensor_lasso",
    "utils",
]
