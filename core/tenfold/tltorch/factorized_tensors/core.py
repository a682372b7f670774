"""Where TensorLy-Torch has the classes that make all others."""

from ..matrices import TensorizedTensor
from ..tensors import FactorizedTensor

__all__ = ["FactorizedTensor", "TensorizedTensor"]
