"""One convolution: some of a network's factors, contracted to its weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from ..network import Contraction, Geometry, Modes, Roles
from .convolve import convolve

BiasedConvolution = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Permutation:
    """A new order of the modes that are flattened in the channel axis."""

    sizes: tuple[int, ...]
    order: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        apart = x.reshape(x.shape[0], *self.sizes, *x.shape[2:])
        rest = range(len(self.sizes) + 1, apart.dim())
        return apart.permute(0, *(i + 1 for i in self.order), *rest).reshape(x.shape)


@dataclass(frozen=True)
class Stage:
    """One convolution: some factors, contracted to its weight, applied to the activation.

    The channel axis holds the modes passed, grouped and summed, in this order; the passed ones go
    to the batch while the convolution runs. Of a linear layer others that are passed may come
    `after` these: they are the columns of a matrix product. `weight_shape` is as PyTorch's:
    `(groups * out, in, *k)`, or `(groups * in, out, *k)` where transposed.
    """

    factors: tuple[int, ...]
    roles: Roles
    contraction: Contraction
    modes: Modes  # of the weight, before some are flattened to its axes
    weight_shape: tuple[int, ...]
    passed: int
    after: int
    groups: int
    geometry: Geometry
    begun: tuple[int, ...]  # the axes that no stage before it convolved over
    permutation: Permutation | None

    @property
    def in_channels(self) -> int:
        """Channels that enter, the passed ones included."""
        inner = self.weight_shape[0] if self.geometry.transposed else None
        return self.times * (inner or self.groups * self.weight_shape[1])

    @property
    def out_channels(self) -> int:
        """Channels that leave, the passed ones included."""
        inner = None if self.geometry.transposed else self.weight_shape[0]
        return self.times * (inner or self.groups * self.weight_shape[1])

    @property
    def times(self) -> int:
        """How often its weight meets each image: once for each element of the passed modes."""
        return self.passed * self.after

    @property
    def bare(self) -> bool:
        """Whether it is a convolution and nothing else."""
        return self.permutation is None and self.times == 1

    def weight(self, factors: Sequence[Tensor]) -> Tensor:
        """Contract its factors, of all the network's `factors`, to its weight."""
        return self.contraction([factors[i] for i in self.factors]).reshape(self.weight_shape)

    def macs(self, size: Sequence[int]) -> int:
        """Multiply-accumulates for one input of spatial size `size`."""
        positions = size if self.geometry.transposed else self.geometry.output_size(size)
        return self.times * prod(self.weight_shape) * prod(positions)

    def __call__(
        self,
        x: Tensor,
        factors: Sequence[Tensor],
        bias: Tensor | None,
        output_padding: Sequence[int] | None = None,  # of all axes, where it is another
    ) -> Tensor:
        weight, geometry = self.weight(factors), self.geometry
        if output_padding is not None:
            mine = [axis in self.begun for axis in range(geometry.order)]
            geometry = geometry.padded([o * m for o, m in zip(output_padding, mine, strict=True)])
        return self.around(
            lambda x, bias: convolve(x, weight, bias, geometry, self.groups), x, bias
        )

    def around(self, convolution: BiasedConvolution, x: Tensor, bias: Tensor | None) -> Tensor:
        """Bring the modes of `x` to the axes that `convolution` wants them on, and back."""
        if self.times == 1:
            return convolution(self.brought(x), bias)
        return add_bias(self.returned(convolution(self.brought(x), None), x), bias)

    def brought(self, x: Tensor) -> Tensor:
        """The input, its modes on the axes that the convolution wants them on."""
        if self.permutation is not None:
            x = self.permutation(x)
        if self.times == 1:
            return x
        columns = (self.after,) if self.after > 1 else ()
        return x.reshape(x.shape[0] * self.passed, x.shape[1] // self.times, *columns, *x.shape[2:])

    def returned(self, y: Tensor, x: Tensor) -> Tensor:
        """What the convolution of `brought(x)` gave, with all modes on the channel axis."""
        size = y.shape[2:] if self.after == 1 else ()
        return y.reshape(x.shape[0], self.out_channels, *size)


def add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """Add a bias, one number for each channel, where there is one."""
    if bias is None:
        return y
    bias = bias if bias.dtype is y.dtype else bias.to(y.dtype)
    return y + (bias if y.dim() == 2 else bias.reshape(-1, *(1,) * (y.dim() - 2)))
