"""Where TensorLy-Torch has the classes that make all others."""

from ..refused import TensorizedTensor
from ..tensors import FactorizedTensor

__all__ = ["FactorizedTensor", "TensorizedTensor"]
