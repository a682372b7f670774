"""TensorLy-Torch's room of layers."""

from .layers import FactorizedConv
from .refused import TCL, TRL, FactorizedEmbedding, FactorizedLinear

__all__ = ["TCL", "TRL", "FactorizedConv", "FactorizedEmbedding", "FactorizedLinear"]
