"""The same kernel, run another way."""

from __future__ import annotations

from typing import Any, TypeVar

from ..plugin import Implementation

L = TypeVar("L")
_GEOMETRY = ("stride", "padding", "dilation", "padding_mode", "transposed", "output_padding")


def rerun(layer: L, implementation: str | Implementation | type[Implementation]) -> L:
    """A layer in eval mode around the kernel of `layer`, a `FactorizedConv`; both share it.

    Raises `ValueError` where the implementation refuses it.
    """
    own: Any = layer
    geometry = {name: getattr(own.config, name) for name in _GEOMETRY}
    made: Any = own.from_factorization(
        own.weight, implementation=implementation, bias=own.bias, **geometry
    )
    made.training = False  # of the new layer alone: the kernel is the other's too
    made.channels_last = own.channels_last
    return made  # type: ignore[no-any-return]
