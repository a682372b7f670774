"""A plan that works ahead: what an implementation may hand back besides a partition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

Prepared = Callable[[Tensor], Tensor]
"""What `Plan.prepare` returns: `x`, `(batch, in_channels, *size)`, to `(batch, out_channels,
*size)`."""


class Plan(ABC):
    """A convolution of its own that computes once, in eval, what depends on the factors alone.

    Any callable `(x, factors, bias) -> y` is a plan; one of this class is also prepared. A layer in
    eval that needs no gradients prepares it once and runs what comes of that, until a factor or the
    bias changes. Nothing is prepared in training, under `torch.compile`, export, tracing or a
    transform of `torch.func`: there, and wherever gradients are needed, the plan itself is called.

    >>> from math import prod
    >>> class Dense(Plan):
    ...     def __init__(self, network):
    ...         self.network = network
    ...
    ...     def __call__(self, x, factors, bias):
    ...         return nn.functional.conv2d(x, self.network.to_tensor(factors), bias)
    ...
    ...     def prepare(self, factors, bias):
    ...         kernel = self.network.to_tensor(factors)
    ...         return lambda x: nn.functional.conv2d(x, kernel, bias)
    ...
    ...     def macs(self, size):  # of a 3×3 kernel, without padding
    ...         return prod(self.network.shape) * (size[0] - 2) * (size[1] - 2)
    ...
    ...     def to_modules(self, factors, bias):
    ...         conv = nn.Conv2d(*self.network.shape[1::-1], 3, bias=bias is not None)
    ...         conv.weight = nn.Parameter(self.network.to_tensor(factors))
    ...         conv.bias = None if bias is None else nn.Parameter(bias)
    ...         return [conv]

    It may also count its multiply-accumulates, by which a compression compares it with others, and
    spell itself as modules, for `to_sequential`.
    """

    @abstractmethod
    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        """Convolve `x`, `(batch, in_channels, *size)`, differentiably."""

    @abstractmethod
    def prepare(self, factors: Sequence[Tensor], bias: Tensor | None) -> Prepared:
        """Fix the factors and the bias, which come detached; returns `x -> y`, without gradients.

        `x` is `(batch, in_channels, *size)`, `y` is `(batch, out_channels, *size)`. Called with
        gradients and autocast off; what it returns may be called under autocast, with an input of
        any size, dtype and memory format, and from several threads. It may keep what depends on the
        input's size too, as long as that is bounded.

        Law: the result equals that of the plan itself. It raises nothing: `plan` has refused what
        cannot be run.
        """

    def macs(self, size: Sequence[int]) -> int | None:
        """Multiply-accumulates for one input of spatial size `size`; None where not counted.

        The size is that after padding other than zeros. Raises nothing.
        """
        return None

    def to_modules(
        self, factors: Sequence[Tensor], bias: Tensor | None
    ) -> Sequence[nn.Module] | None:
        """PyTorch's own modules that, one after another, do the same; None where there are none.

        `bias` is `(out,)`, or None; all come detached, and may be kept. Raises nothing.
        """
        return None
