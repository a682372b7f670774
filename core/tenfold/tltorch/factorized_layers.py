"""TensorLy-Torch's room of layers."""

from .layers import FactorizedConv
from .linear import TCL, TRL, FactorizedEmbedding, FactorizedLinear

__all__ = ["TCL", "TRL", "FactorizedConv", "FactorizedEmbedding", "FactorizedLinear"]
