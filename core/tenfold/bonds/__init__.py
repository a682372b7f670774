"""What acts on the bonds of factorized layers while they learn: dropout, and gates that prune.

Imports `layer` and what stands before it. Used by people, on any module with factorized kernels.
"""

from .dropout import remove_tensor_dropout, tensor_dropout
from .lasso import TensorLasso, tensor_lasso
from .pruning import prune_ranks

__all__ = [
    "TensorLasso",
    "prune_ranks",
    "remove_tensor_dropout",
    "tensor_dropout",
    "tensor_lasso",
]
