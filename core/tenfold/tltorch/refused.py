"""Names that are not here: present, so that programs import them, and refused when used."""

from __future__ import annotations

from typing import Any


class Refused(type):
    """A name whose use says what to use instead."""

    remedy: str

    def __call__(cls, *given: Any, **named: Any) -> Any:
        raise TypeError(f"{cls.__name__} is not in tenfold: {cls.remedy}")

    def __getattr__(cls, name: str) -> Any:
        raise AttributeError(f"{cls.__name__}.{name} is not in tenfold: {cls.remedy}")


def refused(name: str, remedy: str) -> Any:
    """Such a name."""
    return Refused(name, (), {"remedy": remedy, "__doc__": f"Refused: {remedy}."})


BY_HAND = "build the layer once, by FactorizedConv.from_factorization, and call it"
TENSORIZED = "FactorizedTensor with the parts of rows and columns as axes; to_tensor().reshape"
LINEAR = "FactorizedConv.from_conv(linear, …): of order 0 it is a linear layer, split in tt_matrix"
HEAD = "torch.tensordot of the input and a FactorizedTensor, plus a bias"

TensorizedTensor = refused("TensorizedTensor", TENSORIZED)
CPTensorized = refused("CPTensorized", TENSORIZED)
TuckerTensorized = refused("TuckerTensorized", TENSORIZED)
DenseTensorized = refused("DenseTensorized", TENSORIZED)
BlockTT = refused("BlockTT", TENSORIZED)
ComplexCPTensorized = refused("ComplexCPTensorized", TENSORIZED)
ComplexTuckerTensorized = refused("ComplexTuckerTensorized", TENSORIZED)
ComplexDenseTensorized = refused("ComplexDenseTensorized", TENSORIZED)
ComplexBlockTT = refused("ComplexBlockTT", TENSORIZED)
FactorizedLinear = refused("FactorizedLinear", LINEAR)
FactorizedEmbedding = refused("FactorizedEmbedding", "index a FactorizedTensor by the tokens")
TRL = refused("TRL", HEAD)
TCL = refused("TCL", HEAD)
tensor_dropout = refused("tensor_dropout", "nn.Dropout between the stages of to_sequential()")
remove_tensor_dropout = refused("remove_tensor_dropout", "nothing is attached that it could remove")
TensorDropout = refused("TensorDropout", "nn.Dropout between the stages of to_sequential()")
tensor_lasso = refused("tensor_lasso", "choose ranks by Error, Energy, 'vbmf' or tenfold.compress")
remove_tensor_lasso = refused("remove_tensor_lasso", "nothing is attached that it could remove")
TensorLasso = refused("TensorLasso", "choose ranks by Error, Energy, 'vbmf' or tenfold.compress")
convolve = refused("convolve", "torch.nn.functional.conv1d, conv2d or conv3d")
general_conv1d = refused("general_conv1d", "torch.nn.functional.conv1d")
tucker_conv = refused("tucker_conv", BY_HAND)
cp_conv = refused("cp_conv", BY_HAND)
cp_conv_mobilenet = refused("cp_conv_mobilenet", BY_HAND)
tt_conv = refused("tt_conv", BY_HAND)
