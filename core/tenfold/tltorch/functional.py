"""TensorLy-Torch's room of functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .refused import convolve, cp_conv, cp_conv_mobilenet, general_conv1d, tt_conv, tucker_conv

__all__ = [
    "convolve",
    "cp_conv",
    "cp_conv_mobilenet",
    "factorized_linear",
    "general_conv1d",
    "trl",
    "tt_conv",
    "tucker_conv",
]
TORCH: Any = torch  # whose functions take a factorized tensor


def factorized_linear(
    x: Tensor,
    weight: Any,
    bias: Tensor | None = None,
    in_features: int | None = None,
    implementation: str = "factorized",
) -> Any:
    """`torch.nn.functional.linear` of a factorized `weight` `(out, in)`: its factors one by one.

    With `implementation="reconstructed"` the weight is made dense before. Raises as PyTorch does.
    """
    weight = weight.to_tensor() if implementation.lower() == "reconstructed" else weight
    return TORCH.nn.functional.linear(x, weight, bias)


def trl(x: Tensor, weight: Any, bias: Tensor | None = None) -> Any:
    """A tensor regression: `x` `(batch, *input)` with a `weight` `(*input, *output)`.

    Kossaifi et al. 2020, "Tensor Regression Networks". Raises as `torch.tensordot`.
    """
    count = x.dim() - 1
    found = TORCH.tensordot(x, weight, (list(range(1, count + 1)), list(range(count))))
    return found if bias is None else found + bias
