"""Room for a kernel's factors: its shape checked, its memory asked for."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from torch import Tensor

from ..network import KernelNetwork


def allocate(network: KernelNetwork, like: Tensor) -> list[Tensor]:
    """Undrawn factors of `network`, of the dtype and device of `like`.

    Raises `ValueError` where they do not fit.
    """
    try:
        return [like.new_empty(shape) for shape in network.shapes]
    except (RuntimeError, TypeError, OverflowError):
        raise ValueError(
            f"in_channels, out_channels, kernel_size and rank ask for a kernel of shape "
            f"{network.shape} with {network.numel} parameters, which {like.device} cannot hold: "
            "ask for less"
        ) from None


def check_shape(shape: Sequence[int], groups: int, named: str = "shape=") -> tuple[int, ...]:
    """Refuse what is no kernel's shape, or no number of groups of it."""
    if not isinstance(shape, Sequence) or isinstance(shape, str | bytes):
        raise TypeError(f"shape={shape!r} must be a tuple (out, in/groups, *k)")
    sizes = tuple(shape)
    if len(sizes) < 2 or not all(_is_int(s) and s >= 1 for s in sizes):
        raise ValueError(f"{named}{sizes} must be (out, in/groups, *k), all at least 1")
    if not _is_int(groups) or groups < 1 or sizes[0] % groups:
        raise ValueError(f"groups={groups!r} must divide the {sizes[0]} output channels")
    return tuple(int(s) for s in sizes)


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
