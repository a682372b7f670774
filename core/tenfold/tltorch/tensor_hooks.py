"""TensorLy-Torch's room of hooks."""

from .refused import (
    TensorDropout,
    TensorLasso,
    remove_tensor_dropout,
    remove_tensor_lasso,
    tensor_dropout,
    tensor_lasso,
)

__all__ = [
    "TensorDropout",
    "TensorLasso",
    "remove_tensor_dropout",
    "remove_tensor_lasso",
    "tensor_dropout",
    "tensor_lasso",
]
