"""The abstract way to run a factorized kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from ..network import Geometry, KernelNetwork, Partition, is_partition

MemoryFormat = Literal["contiguous", "channels_last"]
Convolution = Callable[[Tensor, Sequence[Tensor], Tensor | None], Tensor]
Way = Partition | str  # a partition, or the name of an implementation


class Implementation(ABC):
    """A way to run any kernel network: a plugin of the group `tenfold.implementations`.

    It asks what the network can do, never which format it came from. `memory_format` is the layout
    of images and volumes in which its convolutions run; None for that of the input. `packed` lets
    their weights be packed for oneDNN in eval. `apart` lets factors that a partition merges run one
    by one in training, where their kernel is made anew on each call, if the input is so small that
    this costs more; of a linear layer in eval too, on rows so few that reading the kernel does.

    >>> class OneByOne(Implementation):
    ...     def plan(self, network, geometry):
    ...         return tuple((i,) for i in range(len(network.factors)))
    ...
    ...     def candidates(self, network, geometry):
    ...         return [self.plan(network, geometry)]
    >>> layer = FactorizedConv(
    ...     8, 8, (3, 3), rank=4, factorization="spatial_svd", implementation=OneByOne
    ... )
    >>> layer.plan.partition
    ((0,), (1,))
    """

    memory_format: MemoryFormat | None = None
    packed: bool = True
    apart: bool = False

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

    def candidates(self, network: KernelNetwork, geometry: Geometry) -> Sequence[Way]:
        """Partitions worth measuring; by default none, and `plan` is what runs.

        A layer measures them, in each memory format, on the first input that it sees in eval mode
        without gradients, and keeps the fastest; until then it runs `plan`'s. The name of an
        implementation, as `"fft"`, stands for what that plans: it is measured where it is not
        refused, and counts fewer multiply-accumulates (`Plan.macs`) than the dense convolution.

        Law: as that of `plan`, for each of them. Raises nothing: `plan` was asked before.
        """
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@dataclass(frozen=True)
class Fixed(Implementation):
    """Run by exactly this partition, an ordered tuple of groups of the factors' indices.

    Of a sum it is of the factors of all terms, a group of those of one term, or all in one group.
    `memory_format` is `"contiguous"`, `"channels_last"` or None, for that of the input; without
    `packed` it is PyTorch's own convolutions that run in eval, on unpacked weights. Raises
    `TypeError` for no partition, `ValueError` for another memory format.

    >>> way = Fixed(((1,), (2, 3), (0,)))
    >>> FactorizedConv(8, 8, 3, order=2, rank=4, implementation=way).plan.partition
    ((1,), (2, 3), (0,))
    """

    partition: Partition
    memory_format: MemoryFormat | None = None
    packed: bool = True

    def __post_init__(self) -> None:
        if not is_partition(self.partition):
            raise TypeError(f"partition={self.partition!r} must be tuples of ints, as ((1,), (0,))")
        if not isinstance(self.packed, bool):
            raise TypeError(f"packed={type(self.packed).__name__} must be True or False")
        if not isinstance(self.memory_format, str | None) or (
            self.memory_format not in (None, *get_args(MemoryFormat))
        ):
            raise ValueError(
                f"memory_format={self.memory_format!r} must be {get_args(MemoryFormat)} or None"
            )
        object.__setattr__(self, "partition", tuple(map(tuple, self.partition)))

    def plan(self, network: KernelNetwork, geometry: Geometry) -> Partition:
        """The partition, whatever the network: making the layer raises where it does not fit."""
        return self.partition

    def __repr__(self) -> str:
        words = f", memory_format={self.memory_format!r}" if self.memory_format else ""
        words += "" if self.packed else ", packed=False"
        return f"Fixed({self.partition}{words})"
