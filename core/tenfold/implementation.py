"""The abstract way to run a factorized kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor

from .geometry import Geometry
from .network import KernelNetwork
from .partition import Partition

Convolution = Callable[[Tensor, Sequence[Tensor], Tensor | None], Tensor]


class Implementation(ABC):
    """A way to run any kernel network: a plugin of the group `tenfold.implementations`.

    It asks what the network can do, never which format it came from.
    """

    @abstractmethod
    def plan(self, network: KernelNetwork, geometry: Geometry) -> Partition | Convolution:
        """Decide, once, how to run `network` with `geometry`.

        Returns an ordered partition of the factors' indices, which core lowers to convolutions and
        runs; or a callable of its own, `(x, factors, bias) -> y`, with `x` of shape
        `(batch, in_channels, *size)`; of the class `Plan`, should it have something to compute
        ahead in eval. Padding other than zeros is done before either.

        Law: the result equals the dense convolution with `network.to_tensor(factors)`, outputs and
        gradients, and depends on the arguments only.

        Raises `ValueError` where this network cannot be run so; the message says why and what to
        use instead.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
