"""The same kernel, run another way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .implementation import Implementation

if TYPE_CHECKING:
    from .conv import FactorizedConv

_GEOMETRY = ("stride", "padding", "dilation", "padding_mode", "transposed", "output_padding")


def rerun(
    layer: FactorizedConv, implementation: str | Implementation | type[Implementation]
) -> FactorizedConv:
    """A layer in eval mode around the kernel of `layer`, which both share.

    Raises `ValueError` where the implementation refuses it.
    """
    geometry = {name: getattr(layer.config, name) for name in _GEOMETRY}
    made = type(layer).from_factorization(
        layer.weight, implementation=implementation, bias=layer.bias, **geometry
    )
    made.training = False  # of the new layer alone: the kernel is the other's too
    made.channels_last = layer.channels_last
    return made
