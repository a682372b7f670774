"""TensorLy-Torch's room of tensors."""

from ..matrices import (
    BlockTT,
    ComplexBlockTT,
    ComplexCPTensorized,
    ComplexDenseTensorized,
    ComplexTuckerTensorized,
    CPTensorized,
    DenseTensorized,
    TensorizedTensor,
    TuckerTensorized,
)
from ..tensors import (
    ComplexCPTensor,
    ComplexDenseTensor,
    ComplexTTTensor,
    ComplexTuckerTensor,
    CPTensor,
    DenseTensor,
    FactorizedTensor,
    TTTensor,
    TuckerTensor,
)
from . import core, init
from .init import block_tt_init, cp_init, tensor_init, tt_init, tucker_init

__all__ = [
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
    "FactorizedTensor",
    "TTTensor",
    "TensorizedTensor",
    "TuckerTensor",
    "TuckerTensorized",
    "block_tt_init",
    "core",
    "cp_init",
    "init",
    "tensor_init",
    "tt_init",
    "tucker_init",
]
