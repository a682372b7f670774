"""What is done to an input before a layer's convolutions, and to the output after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .convolve import in_format
from .padding import Sides, pad

Given = Sequence[Tensor | None]  # the factors, and the bias
Before = tuple[bool, bool, Sides | None, str]  # inside, together, sides, padding_mode


def lay_out(
    x: Tensor, inside: bool, together: bool, sides: Sides | None, padding_mode: str
) -> Tensor:
    """Bring `x` to the memory format that the convolutions run in, and pad it.

    `inside` and `together` are whether the channels are together there, and in the layer's output.
    """
    if inside or together:
        x = in_format(x, inside)
    return x if sides is None else pad(x, sides, padding_mode)


def surround(way: Callable[[Tensor], Tensor], before: Before, x: Tensor) -> Tensor:
    """Lay `x` out, let it go its way, and give the output the layer's memory format."""
    return in_format(way(lay_out(x, *before)), before[1])


def surround_learning(
    way: Callable[[Given, Tensor], Tensor], before: Before, given: Given, x: Tensor
) -> Tensor:
    """`surround` of a way that takes the parameters too."""
    return in_format(way(given, lay_out(x, *before)), before[1])
