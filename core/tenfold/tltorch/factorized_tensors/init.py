"""Where TensorLy-Torch draws tensors: one rule for every format here."""

from ..tensors import tensor_init

__all__ = ["block_tt_init", "cp_init", "tensor_init", "tt_init", "tucker_init"]

cp_init = tucker_init = tt_init = block_tt_init = tensor_init
