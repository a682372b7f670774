"""Hypothesis strategies for kernels, ranks and whole convolutions, for any plugin's own tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from .. import FactorizedConv
from .dense import dense_convolution

DEFAULTS = {
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
    "transposed": False,
    "output_padding": 0,
}


@dataclass(frozen=True, repr=False)
class Request:
    """A drawn convolution: its `arguments`, as `FactorizedConv` takes them, and an input's shape.

    The input is `(batch, in_channels, *size)`; the numbers of the layer and the input come from
    `seed`. Drawn by `requests`.

    >>> import torch
    >>> arguments = {"in_channels": 2, "out_channels": 3, "kernel_size": (3,)}
    >>> request = Request(arguments, batch=1, size=(8,))
    >>> request
    FactorizedConv(in_channels=2, out_channels=3, kernel_size=(3,)) on an input of shape (1, 2, 8)
    >>> layer, x = request.layer(dtype=torch.float64), request.input()
    >>> relative_error(request.dense(x, layer.weight.to_tensor(), layer.bias), layer(x)) < 1e-12
    True
    >>> request.order, request.shape
    (1, (3, 2, 3))
    """

    arguments: dict[str, Any]
    batch: int
    size: tuple[int, ...]
    seed: int = field(default=0, compare=False)

    def __repr__(self) -> str:
        given = ", ".join(
            f"{name}={value!r}"
            for name, value in self.arguments.items()
            if name not in DEFAULTS or value not in (DEFAULTS[name], (DEFAULTS[name],) * self.order)
        )
        shape = (self.batch, self.arguments["in_channels"], *self.size)
        return f"FactorizedConv({given}) on an input of shape {shape}"

    @property
    def order(self) -> int:
        """The number of spatial axes."""
        return len(self.arguments["kernel_size"])

    @property
    def shape(self) -> tuple[int, ...]:
        """The kernel's shape, `(out, in/groups, *k)`."""
        inner = self.arguments["in_channels"] // self.arguments.get("groups", 1)
        return (self.arguments["out_channels"], inner, *self.arguments["kernel_size"])

    def layer(self, **more: Any) -> FactorizedConv:
        """Build the layer, with random numbers that depend on the request only.

        `more` are further arguments, or others. Raises as `FactorizedConv` does.
        """
        generator = torch.Generator().manual_seed(self.seed)
        return FactorizedConv(**{**self.arguments, **more}, generator=generator)

    def input(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """A normal input, `(batch, in_channels, *size)`, the same each time; it raises nothing."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        shape = (self.batch, self.arguments["in_channels"], *self.size)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    def dense(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        """What a dense convolution with `kernel`, `(out, in/groups, *k)`, makes of `x`.

        Raises as `dense_convolution` does.
        """
        alike = ("stride", "padding", "dilation", "output_padding")  # one number for each axis
        given = {**DEFAULTS, **self.arguments}
        options: dict[str, Any] = {
            name: (value,) * self.order if name in alike and isinstance(value, int) else value
            for name, value in given.items()
            if name in DEFAULTS and name != "bias"
        }
        return dense_convolution(x, kernel, bias, **options)


def kernel_shapes(
    orders: Sequence[int] = (0, 1, 2, 3), largest: int = 6
) -> st.SearchStrategy[tuple[int, ...]]:
    """Kernel shapes `(out, in, *k)` of those `orders`, of at most `largest` channels.

    Raises what Hypothesis raises for empty `orders`, when it draws.

    >>> from hypothesis import find
    >>> find(kernel_shapes(orders=[2]), lambda shape: shape[2] > 1)
    (1, 1, 2, 1)
    """
    channels = st.integers(1, largest)
    return st.sampled_from(list(orders)).flatmap(
        lambda order: st.tuples(channels, channels, *(st.integers(1, 4),) * order)
    )


@st.composite
def kernels(
    draw: st.DrawFn, orders: Sequence[int] = (0, 1, 2, 3), largest: int = 4, groups: int = 1
) -> Tensor:
    """Normal kernels `(groups * out, in, *k)` in float64, of at most `largest` channels a group.

    Of those `orders` of spatial axes. Raises as `kernel_shapes` does.

    >>> from hypothesis import find
    >>> find(kernels(orders=[1], groups=2), lambda kernel: True).shape
    torch.Size([2, 1, 1])
    """
    out, *rest = draw(kernel_shapes(orders, largest))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return torch.randn(groups * out, *rest, generator=generator, dtype=torch.float64)


def fractions() -> st.SearchStrategy[float]:
    """Ranks as a fraction of the dense parameters, from 0.01 to 1.

    >>> from hypothesis import find
    >>> 0.5 < find(fractions(), lambda rank: rank > 0.5) <= 1
    True
    """
    return st.floats(0.01, 1.0)


@st.composite
def requests(
    draw: st.DrawFn, orders: Sequence[int] = (0, 1, 2, 3), transposed: bool | None = None
) -> Request:
    """Convolutions over the whole surface: each axis its own stride, padding and dilation.

    Of those `orders` of spatial axes. `transposed` fixes that choice; by default both kinds are
    drawn. Raises as `kernel_shapes` does.

    >>> from hypothesis import find
    >>> find(requests(orders=[1], transposed=False), lambda request: True).batch
    1
    """
    order = draw(st.sampled_from(list(orders)))
    if transposed is None:
        transposed = draw(st.booleans())
    transposed = transposed and order > 0
    groups = draw(st.integers(1, 3))

    def axes(strategy: st.SearchStrategy[int]) -> tuple[int, ...]:
        return draw(st.tuples(*(strategy,) * order))

    kernel_size = axes(st.integers(1, 3 if order > 2 else 5))
    stride, dilation = axes(st.integers(1, 3)), axes(st.integers(1, 3 if order < 3 else 2))
    sides = axes(st.integers(0, 2))
    padding: tuple[int, ...] | str = sides
    padding_mode = "zeros"
    output_padding: tuple[int, ...] = (0,) * order
    reach = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]
    if transposed:
        most = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        output_padding = tuple(draw(st.integers(0, m)) for m in most)
        # the smallest output has one element on each axis
        least = [
            max(1, -(-(2 * p - r - o) // s) + 1)
            for p, r, o, s in zip(sides, reach, output_padding, stride, strict=True)
        ]
    else:
        modes = ["zeros", "zeros", "zeros", "reflect", "replicate", "circular"]  # zeros are usual
        padding_mode = draw(st.sampled_from(modes))
        worded = draw(st.sampled_from(["", "", "valid", "same"]))
        if worded:
            padding = worded
        if worded == "same":
            stride = (1,) * order
        # every padding mode can pad, and the kernel fits
        least = [max(r, 2) + 1 for r in reach]
    size = tuple(low + draw(st.integers(0, 2)) for low in least)
    arguments = {
        "in_channels": groups * draw(st.integers(1, 4)),
        "out_channels": groups * draw(st.integers(1, 4)),
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": padding_mode,
        "transposed": transposed,
        "output_padding": output_padding,
        "rank": draw(st.one_of(st.just("same"), fractions(), st.integers(1, 6))),
    }
    return Request(arguments, draw(st.integers(1, 2)), size, draw(st.integers(0, 2**16)))


@st.composite
def typical(draw: st.DrawFn, orders: Sequence[int]) -> Request:
    """Convolutions such as networks have, for checks that are costly: the simplest is one too."""
    order = draw(st.sampled_from(list(orders)))
    stride, padding = draw(st.sampled_from([(2, 1), (1, 1), (1, 0)]))
    arguments = {
        "in_channels": 4,
        "out_channels": 6,
        "kernel_size": (3,) * order,
        "stride": stride,
        "padding": padding,
        "groups": draw(st.sampled_from([1, 2])),
        "bias": draw(st.sampled_from([True, False])),
        "transposed": draw(st.sampled_from([False, False, True])) and order > 0,
        "rank": draw(st.sampled_from([2, 0.5])),
    }
    return Request(arguments, 2, (7,) * order, draw(st.integers(0, 2**16)))
