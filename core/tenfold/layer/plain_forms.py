"""The ways from a layer to what needs no tenfold, and to the call that made it."""

from __future__ import annotations

from torch import nn

from . import plain
from .forward import Forward


class PlainForms(Forward):
    """The methods of a `FactorizedConv` that give plain `torch.nn` modules.

    >>> isinstance(FactorizedConv(8, 16, 3, order=2), PlainForms)
    True
    """

    def to_conv(self) -> nn.Module:
        """The dense `nn.ConvNd`, `nn.ConvTransposeNd` or `nn.Linear` with the same output.

        Raises `ValueError` above order 3, where `torch.nn` has none.

        >>> FactorizedConv(8, 16, 3, order=2, rank=4).to_conv()
        Conv2d(8, 16, kernel_size=(3, 3), stride=(1, 1))
        """
        return plain.to_conv(self)

    def to_sequential(self) -> nn.Sequential:
        """The same stages as a chain of `torch.nn` modules, which needs no tenfold.

        Raises `ValueError` above order 3, or where the implementation runs code of its own that
        spells no modules (`Plan.to_modules`).

        >>> chain = FactorizedConv(8, 8, 3, order=2, factorization="tucker").to_sequential()
        >>> [tuple(module.kernel_size) for module in chain]
        [(1, 1), (3, 3), (1, 1)]
        """
        return plain.to_sequential(self)

    def __prepare_scriptable__(self) -> nn.Module:
        """Asked for by `torch.jit.script` before it compiles a module."""
        raise TypeError(
            f"torch.jit.script compiles plain modules, and {self!r} is none: script "
            "tenfold.to_plain(model), or trace the model"
        )

    def __repr__(self) -> str:
        return plain.spell(self)
