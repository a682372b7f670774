"""Where a convolution looks: strides, paddings and dilations, one for each axis."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """The geometry of a convolution of any order, one number for each axis.

    `kernel_size`, `stride`, `padding` and `dilation` are those of `nn.ConvNd`; `padding` is zeros
    on both sides. `output_padding` counts only where `transposed`.

    >>> geometry = Geometry((3, 5), (2, 1), padding=(1, 2), dilation=(1, 1), output_padding=(0, 0))
    >>> geometry.order, geometry.reach, geometry.is_pointwise
    (2, (3, 5), False)
    >>> geometry.output_size((8, 8))
    (4, 8)
    >>> geometry.on([0]).kernel_size, geometry.of([1]).kernel_size
    ((3, 1), (5,))
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    transposed: bool = False

    @property
    def order(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel_size)

    @property
    def is_pointwise(self) -> bool:
        """Whether it maps each position to itself: a 1×1 convolution."""
        ones, zeros = (1,) * self.order, (0,) * self.order
        return (self.kernel_size, self.stride, self.padding) == (ones, ones, zeros) and (
            not self.transposed or self.output_padding == zeros
        )

    def on(self, axes: Collection[int]) -> Geometry:
        """Restrict it to some axes; the others are left as they are (kernel 1, stride 1).

        Raises nothing: axes that it has not are no matter.
        """

        def keep(values: Sequence[int], neutral: int) -> tuple[int, ...]:
            return tuple(v if axis in axes else neutral for axis, v in enumerate(values))

        return Geometry(
            keep(self.kernel_size, 1),
            keep(self.stride, 1),
            keep(self.padding, 0),
            keep(self.dilation, 1),
            keep(self.output_padding, 0),
            self.transposed,
        )

    def padded(self, output_padding: Sequence[int]) -> Geometry:
        """The same with another output padding, one number for each axis.

        Raises nothing. Not by `dataclasses.replace`, which torch 2.6 does not compile.

        >>> Geometry((3,), (2,), (0,), (1,), (0,), transposed=True).padded([1]).output_size((4,))
        (10,)
        """
        return Geometry(
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            tuple(output_padding),
            self.transposed,
        )

    def of(self, axes: Sequence[int]) -> Geometry:
        """The geometry of some axes alone, a convolution of a lower order.

        Raises `IndexError` for an axis that it has not.
        """

        def pick(values: Sequence[int]) -> tuple[int, ...]:
            return tuple(values[axis] for axis in axes)

        return Geometry(
            pick(self.kernel_size),
            pick(self.stride),
            pick(self.padding),
            pick(self.dilation),
            pick(self.output_padding),
            self.transposed,
        )

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """The spatial size of the output for an input of spatial size `size`.

        Below 1 where none is left. Raises `ValueError` for another number of axes.
        """
        return tuple(
            (s - 1) * self.stride[axis] - 2 * self.padding[axis] + reach + self.output_padding[axis]
            if self.transposed
            else (s + 2 * self.padding[axis] - reach) // self.stride[axis] + 1
            for axis, (s, reach) in enumerate(zip(size, self.reach, strict=True))
        )

    def check_size(self, size: Sequence[int]) -> None:
        """Refuse an input of spatial size `size` that leaves no output.

        Raises `ValueError`, which says what is too small, and for what.

        >>> Geometry((3,), (1,), padding=(1,), dilation=(1,), output_padding=(0,)).check_size((1,))
        """
        size = tuple(size)
        if any(s < 1 for s in size):
            raise ValueError(f"input of spatial size {size} is empty: give a larger one")
        if all(s >= 1 for s in self.output_size(size)):
            return
        if self.transposed:
            raise ValueError(
                f"input of spatial size {size} leaves no output with padding={self.padding}: "
                "give a larger input, or less padding"
            )
        padded = tuple(s + 2 * p for s, p in zip(size, self.padding, strict=True))
        raise ValueError(
            f"input of spatial size {padded}, with its padding, is smaller than the kernel's reach "
            f"{self.reach}: give a larger input, or more padding"
        )

    @property
    def reach(self) -> tuple[int, ...]:
        """How many positions the dilated kernel spans on each axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
