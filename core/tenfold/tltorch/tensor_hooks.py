"""TensorLy-Torch's room of hooks."""

from .hooks import TensorLasso, remove_tensor_dropout, tensor_dropout, tensor_lasso
from .refused import TensorDropout, remove_tensor_lasso

__all__ = [
    "TensorDropout",
    "TensorLasso",
    "remove_tensor_dropout",
    "remove_tensor_lasso",
    "tensor_dropout",
    "tensor_lasso",
]
