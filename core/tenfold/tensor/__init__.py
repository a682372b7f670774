"""Tensors of any shape in any format: made, indexed, contracted, and met by PyTorch's functions.

Imports `network`, `plugin` and `solve`. Used by whatever holds a tensor that is no kernel.
"""

from .making import format_of, keep_whole
from .tensor import FactorizedTensor, TensorParameters

__all__ = ["FactorizedTensor", "TensorParameters", "format_of", "keep_whole"]
