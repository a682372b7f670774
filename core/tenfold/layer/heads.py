"""Layers of whole tensors: a regression on one, and one made smaller mode by mode.

Kossaifi et al. 2020, "Tensor regression networks", arXiv 1707.08308.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from ..arguments import check_kind
from ..plugin import Factorization, Implementation
from .conv import FactorizedConv
from .linear import FactorizedLinear


class TensorRegression(nn.Module):
    """A linear map of a whole tensor, `(batch, *input_shape)` to `(batch, *output_shape)`.

    The weight has a mode for each of the input's axes and one for the output: it is the kernel of a
    convolution as large as its input, and `layer` is that `FactorizedConv`, in any format. It takes
    the place of a flattening and a linear layer, and keeps the axes apart.

    Args:
        input_shape: `(channels, *size)`, without the batch.
        output_shape: an int, or a tuple.
        bias, rank, factorization, implementation and further ones: as `FactorizedConv`.

    Raises `ValueError` or `TypeError` for a bad argument, or an input of another shape.
    Kossaifi et al. 2020, arXiv 1707.08308.

    >>> head = TensorRegression((32, 7, 7), 10, rank=8, factorization="cp")
    >>> head(torch.randn(4, 32, 7, 7)).shape, head.layer.weight.numel()
    (torch.Size([4, 10]), 448)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_shape: int | Sequence[int],
        bias: bool = True,
        *,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "cp",
        implementation: str | Implementation | type[Implementation] = "factorized",
        **options: Any,
    ) -> None:
        super().__init__()
        self.input_shape = sizes("input_shape", input_shape)
        self.output_shape = sizes("output_shape", output_shape)
        self.layer = FactorizedConv(
            self.input_shape[0],
            prod(self.output_shape),
            self.input_shape[1:],
            bias=bias,
            rank=rank,
            factorization=factorization,
            implementation=implementation,
            **options,
        )

    @classmethod
    def from_linear(
        cls, linear: nn.Linear, input_shape: Sequence[int], **options: Any
    ) -> TensorRegression:
        """Take the place of a flattening and `linear`, whose weight is decomposed.

        `options` are those of `FactorizedConv.from_conv`. Raises `ValueError` where `input_shape`
        has not so many elements as the layer has inputs, or is of more than four axes.

        >>> linear = nn.Linear(8 * 3 * 3, 5)
        >>> head = TensorRegression.from_linear(linear, (8, 3, 3), rank=10**9)
        >>> x = torch.randn(2, 8, 3, 3)
        >>> relative_error(linear(x.flatten(1)), head(x)) < 1e-4
        True
        """
        check_kind("linear", linear, nn.Linear)
        shape = sizes("input_shape", input_shape)
        if prod(shape) != linear.in_features or len(shape) > 4:
            raise ValueError(
                f"input_shape={shape} must have the layer's {linear.in_features} inputs, on at "
                "most four axes"
            )
        head = cls.__new__(cls)
        nn.Module.__init__(head)
        head.input_shape, head.output_shape = shape, (linear.out_features,)
        head.layer = FactorizedConv.from_conv(as_conv(linear, shape), **options)
        return head.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, *input_shape)` to `(batch, *output_shape)`; else raises `ValueError`."""
        check_shape(x, self.input_shape)
        return self.layer(x).reshape(len(x), *self.output_shape)  # type: ignore[no-any-return]


class TensorContraction(nn.Module):
    """Each axis of a tensor times a matrix: `(batch, *input_shape)` to `(batch, *output_shape)`.

    It is a `FactorizedLinear`, `layer`, in the format `cp_matrix`: at rank 1 one matrix for each
    axis, at higher ranks a sum of such; `tt_matrix` and `tucker_matrix` bind the axes otherwise.

    Args:
        input_shape: without the batch; at least two axes.
        output_shape: as many.
        bias, rank, factorization, implementation and further ones: as `FactorizedLinear`.

    Raises `ValueError` or `TypeError` for a bad argument, or an input of another shape.
    Kossaifi et al. 2017, "Tensor contraction layers", arXiv 1706.00439.

    >>> layer = TensorContraction((32, 7, 7), (8, 3, 3))
    >>> layer(torch.randn(4, 32, 7, 7)).shape, layer.layer.weight.numel()
    (torch.Size([4, 8, 3, 3]), 298)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_shape: Sequence[int],
        bias: bool = False,
        *,
        rank: Any = 1,
        factorization: str | Factorization | type[Factorization] = "cp_matrix",
        implementation: str | Implementation | type[Implementation] = "factorized",
        **options: Any,
    ) -> None:
        super().__init__()
        self.input_shape = sizes("input_shape", input_shape)
        self.output_shape = sizes("output_shape", output_shape)
        if len(self.input_shape) != len(self.output_shape) or len(self.input_shape) < 2:
            raise ValueError(
                f"input_shape={self.input_shape}, output_shape={self.output_shape} must have the "
                "same number of axes, two at least"
            )
        self.layer = FactorizedLinear(
            self.input_shape,
            self.output_shape,
            bias,
            rank=rank,
            factorization=factorization,
            implementation=implementation,
            **options,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, *input_shape)` to `(batch, *output_shape)`; else raises `ValueError`."""
        check_shape(x, self.input_shape)
        return self.layer(x.flatten(1)).reshape(len(x), *self.output_shape)  # type: ignore[no-any-return]


def sizes(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    """A shape as a tuple; a `ValueError` for what is none."""
    found = tuple(value) if isinstance(value, Sequence) else (value,)
    if not found or not all(type(one) is int and one >= 1 for one in found):
        raise ValueError(f"{name}={value!r} must be ints of at least 1")
    return found


def check_shape(x: Any, shape: tuple[int, ...]) -> None:
    """Refuse an input of another shape, with a `ValueError`."""
    if not isinstance(x, Tensor) or tuple(x.shape[1:]) != shape:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"input of shape {got} must have (batch, {', '.join(map(str, shape))})")


def as_conv(linear: nn.Linear, shape: tuple[int, ...]) -> nn.Module:
    """A linear layer of a flattened input as a convolution as large as the input."""
    if len(shape) == 1:
        return linear
    kind: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(shape) - 2]
    made = kind(
        shape[0], linear.out_features, shape[1:], bias=linear.bias is not None, device="meta"
    )
    weight = linear.weight.detach().reshape(linear.out_features, *shape)
    made.weight = nn.Parameter(weight, linear.weight.requires_grad)
    made.bias = linear.bias
    return made.train(linear.training)  # type: ignore[no-any-return]
