"""What a format says of its kernels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..network import Modes


class Format(ABC):
    """The part of a `Factorization` that a plugin writes: the modes of its factors, what is fixed.

    >>> issubclass(Factorization, Format)
    True
    """

    @abstractmethod
    def factors(self, order: int, rank: Any) -> Sequence[Sequence[str]]:
        """Name the modes of each factor of a kernel with `order` spatial modes.

        The open modes are `"out"`, `"in"`, `"k0"` to `f"k{order - 1}"`; every other name is a bond
        that at least two factors share; `"group"` and further `k`s are core's own. `rank` is what
        the user asked for, should the factors depend on it.

        Law: bonds at their exact sizes hold every kernel; more bond size is never worse.

        Raises `ValueError` for an order or a request that the format has not.
        """

    def factors_for(self, shape: Sequence[int], rank: Any) -> Sequence[Sequence[str]]:
        """`factors` of a format whose factors depend on the channels too; here on the order alone.

        `shape` is one group's kernel, `(out, in, *k)`. Raises as `factors` does, and obeys its law.

        >>> class Halving(Factorization):
        ...     def factors(self, order, rank):
        ...         return self.factors_for((2, 2) + (1,) * order, rank)
        ...
        ...     def factors_for(self, shape, rank):
        ...         space = [f"k{axis}" for axis in range(len(shape) - 2)]
        ...         parts = range(len(self.splits(shape)["out"]))
        ...         bonds = [*(f"b{part}" for part in parts), *space]
        ...         cores = [(bonds[i], f"out.{i}", f"b{i + 1}") for i in parts[:-1]]
        ...         return [("in", *space, "b0"), *cores, (bonds[len(cores)], f"out.{len(cores)}")]
        ...
        ...     def splits(self, shape):
        ...         parts = (shape[0] & -shape[0]).bit_length()
        ...         return {"out": (*(2,) * (parts - 1), shape[0] >> (parts - 1))}
        >>> [len(Halving().network((out, 4, 3), 2).factors) for out in (6, 8, 16)]
        [3, 5, 6]
        """
        return self.factors(len(shape) - 2, rank)

    def constant(self, modes: Modes, sizes: Mapping[str, int]) -> Tensor | None:
        """The values of a factor that the format fixes; None for one that is learned, as here all.

        `modes` are the factor's and `sizes` those of every mode; the values, one group's, are of
        shape `(sizes[mode], …)`: a dictionary of filters, a copy tensor, a mask. They are a buffer
        of the layer: they move and are saved with it, but are not counted, drawn or fitted.

        Law: the same arguments give the same values. Raises nothing.

        >>> class Cosines(Factorization):
        ...     def factors(self, order, rank):
        ...         return [("out", "in", "f"), ("f", "k0")]
        ...
        ...     def constant(self, modes, sizes):
        ...         if "k0" not in modes:
        ...             return None
        ...         n, m = (torch.arange(sizes[mode]) for mode in modes)
        ...         return torch.cos(torch.pi * n[:, None] * (m + 0.5) / len(m))
        >>> kernel = FactorizedKernel.new((8, 4, 5), rank=2, factorization=Cosines)
        >>> kernel.numel(), [name for name, _ in kernel.named_buffers()]
        (64, ['factors.1'])
        """
        return None

    def splits(self, shape: Sequence[int]) -> Mapping[str, Sequence[int]]:
        """The sizes that `out`, `in`, `k0`, … are products of, where they are several modes each.

        `shape` is one group's kernel, `(out, in, *k)`. A split `out` is `out.0`, `out.1`, … among
        the modes of the factors, the first the slowest; by default none is split. Where the
        number of parts depends on the shape, so do the factors (`factors_for`). An axis of space
        in parts is convolved over by several convolutions, all but the last dilated.

        Raises nothing: a product that is another is refused after it.

        >>> class Kronecker(Factorization):
        ...     def factors(self, order, rank):
        ...         space = [f"k{axis}" for axis in range(order)]
        ...         return [("out.0", "in.0", "r"), ("out.1", "in.1", *space, "r")]
        ...
        ...     def splits(self, shape):
        ...         return {"out": (2, shape[0] // 2), "in": (2, shape[1] // 2)}
        >>> FactorizedKernel.new((8, 4, 3), rank=1, factorization=Kronecker).network.shapes
        ((2, 2, 1), (4, 2, 3, 1))
        """
        return {}

    def widths(self, sizes: Mapping[str, int]) -> Mapping[str, int]:
        """The bonds of a fixed size, by the `sizes` of the open modes; by default there are none.

        They take no part in a request, and a budget is spent on the others. Raises nothing.

        >>> class Separable(Factorization):
        ...     def factors(self, order, rank):
        ...         return [("in", "k0", "w"), ("w", "r"), ("r", "out")]
        ...
        ...     def widths(self, sizes):
        ...         return {"w": sizes["k0"]}
        >>> FactorizedKernel.new((8, 4, 3), rank=2, factorization=Separable).rank
        (3, 2)
        """
        return {}
