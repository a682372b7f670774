"""How far one kernel is from another."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import check_tensor


def relative_error(kernel: Tensor, other: Tensor) -> float:
    """`‖kernel − other‖_F / ‖kernel‖_F`, and 0 where both are zero.

    Two tensors of the same shape; computed in float64. Raises `ValueError` for other shapes.

    >>> relative_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.0]))
    0.2
    """
    check_tensor("kernel", kernel)
    if kernel.shape != check_tensor("other", other).shape:
        raise ValueError(
            f"other of shape {tuple(other.shape)} must have the kernel's, {tuple(kernel.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(kernel.dtype, other.dtype), torch.float64)
    wide = kernel.detach().to(dtype)
    gap, norm = float((wide - other.detach().to(dtype)).norm()), float(wide.norm())
    return gap / norm if norm else gap
