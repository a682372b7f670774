"""What changes a layer's size and keeps what it has learned."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from .forward import Forward
from .holding import exchange

if TYPE_CHECKING:
    from typing_extensions import Self


class Reshaping(Forward):
    """The methods of a `FactorizedConv` that change its size and keep what it has learned.

    >>> layer = FactorizedConv(16, 16, 3, order=2, rank=12, factorization="tt")
    >>> isinstance(layer, Reshaping)
    True
    """

    def round(self, rank: Any) -> Self:
        """A smaller layer of the same format, near this one, whose dense kernel is not made.

        `rank` is what `FactorizedConv` takes, with `Error` and `Energy` relative to this layer's
        own kernel, and a fraction to the dense kernel's parameters; no bond grows. See
        `FactorizedKernel.round` for the error. The bias, the geometry, the state and the hooks are
        copied. Raises `ValueError` or `TypeError` for a bad `rank`, and where nothing has values.

        >>> layer = FactorizedConv(16, 16, 3, order=2, rank=12, factorization="tt")
        >>> layer.round(rank=4).rank, layer.rank
        ((4, 4, 4), (12, 12, 12))
        """
        kernel = self.weight.round(rank)
        made = copy.deepcopy(self)
        exchange(made, kernel)
        return made
