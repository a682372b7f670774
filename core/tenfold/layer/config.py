"""What a user asked of a convolution, validated and spelled out for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..network import Geometry
from ..run import Sides, same

MOST_ORDER = 16
LARGEST = 2**31 - 1  # of a size, a stride, a padding or a dilation: what PyTorch's kernels count to
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
Sizes = tuple[int, ...]


class ConvConfig(BaseModel):
    """The arguments of a convolution of any order, each axis its own number.

    Made by `ConvConfig.parse`, which takes the arguments as `nn.ConvNd` does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    order: int
    in_channels: int
    out_channels: int
    kernel_size: Sizes
    stride: Sizes
    padding: Sizes | Literal["same", "valid"]
    dilation: Sizes
    groups: int
    bias: bool
    padding_mode: str
    transposed: bool
    output_padding: Sizes

    @classmethod
    def parse(cls, **given: Any) -> ConvConfig:
        """Validate the arguments; an int stands for every axis.

        `order` may be None where `kernel_size` is a tuple. Raises `ValueError`, naming the
        argument, its value and the remedy.
        """
        order, kernel_size = given["order"], given["kernel_size"]
        if order is None:
            if not isinstance(kernel_size, Sequence) or isinstance(kernel_size, str):
                raise ValueError(
                    f"kernel_size={kernel_size!r} leaves the order open: give a tuple, one number "
                    "for each axis, or order=, as order=2 for images"
                )
            given["order"] = len(kernel_size)
        try:
            return cls(**given)
        except ValidationError as fault:
            first = fault.errors()[0]
            reason = first["msg"].removeprefix("Value error, ")
            if first["type"] != "value_error":
                name = first["loc"][0]
                reason = f"{name}={given.get(str(name))!r}: {reason}"
            raise ValueError(reason) from None

    @field_validator("order", "in_channels", "out_channels", "groups", mode="before")
    @classmethod
    def _whole(cls, value: Any, info: ValidationInfo) -> int:
        least = 0 if info.field_name == "order" else 1
        if not _is_int(value) or value < least:
            raise ValueError(f"{info.field_name}={value!r} must be an int of at least {least}")
        if info.field_name == "order" and value > MOST_ORDER:
            raise ValueError(f"order={value} must be at most {MOST_ORDER}")
        return int(value)

    @field_validator("bias", "transposed", mode="before")
    @classmethod
    def _flag(cls, value: Any, info: ValidationInfo) -> bool:
        if not isinstance(value, bool | Integral) or value not in (0, 1):
            raise ValueError(f"{info.field_name}={value!r} must be True or False")
        return bool(value)

    @field_validator("padding_mode")
    @classmethod
    def _mode(cls, value: str) -> str:
        if value not in PADDING_MODES:
            raise ValueError(f"padding_mode={value!r} must be one of {', '.join(PADDING_MODES)}")
        return value

    @field_validator(
        "kernel_size", "stride", "padding", "dilation", "output_padding", mode="before"
    )
    @classmethod
    def _axes(cls, value: Any, info: ValidationInfo) -> Sizes | str:
        name, order = info.field_name, info.data.get("order", 0)
        if name == "padding" and isinstance(value, str):
            if value not in ("same", "valid"):
                raise ValueError(f"padding={value!r} must be ints, 'same' or 'valid'")
            return value
        least = 0 if name in ("padding", "output_padding") else 1
        many = isinstance(value, Sequence) and not isinstance(value, str)
        values = tuple(value) if many else (value,) * max(order, 1)
        if not all(_is_int(v) and v >= least for v in values):
            raise ValueError(
                f"{name}={value!r} must be an int of at least {least}, or a tuple of them"
            )
        if any(v > LARGEST for v in values):
            raise ValueError(f"{name}={value!r} must be at most {LARGEST}")
        if many and len(values) != order:
            raise ValueError(
                f"{name}={tuple(value)!r} has {len(values)} numbers; order={order} takes {order}"
            )
        return tuple(int(v) for v in values[:order])

    @model_validator(mode="after")
    def _agree(self) -> ConvConfig:
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"{name}={getattr(self, name)} must be divisible by groups={self.groups}"
                )
        if self.transposed and self.order == 0:
            raise ValueError("transposed=True with order=0: a linear layer has no transposed form")
        if self.transposed and (isinstance(self.padding, str) or self.padding_mode != "zeros"):
            raise ValueError(
                f"padding={self.padding!r}, padding_mode={self.padding_mode!r}: a transposed "
                "convolution takes ints and 'zeros'"
            )
        if self.padding == "same" and any(stride != 1 for stride in self.stride):
            raise ValueError(f"padding='same' with stride={self.stride}: it needs stride 1")
        if not self.transposed and any(self.output_padding):
            raise ValueError(
                f"output_padding={self.output_padding} is for transposed convolutions: give "
                "transposed=True or leave it out"
            )
        for extra, stride, dilation in zip(
            self.output_padding, self.stride, self.dilation, strict=True
        ):
            if extra and extra >= max(stride, dilation):
                raise ValueError(
                    f"output_padding={self.output_padding} must be below the stride "
                    f"{self.stride} or the dilation {self.dilation} on each axis"
                )
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """The kernel's shape, `(out, in/groups, *k)`."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def fan_in(self) -> int:
        """What `nn.ConvNd` (`nn.ConvTransposeNd`) takes for the inputs of one output."""
        channels = self.out_channels if self.transposed else self.in_channels
        fan_in = channels // self.groups
        for size in self.kernel_size:
            fan_in *= size
        return fan_in

    @property
    def sides(self) -> Sides | None:
        """What is padded before the first convolution; None where the convolutions do it."""
        if isinstance(self.padding, tuple):
            even = tuple((p, p) for p in self.padding)
            return even if self.padding_mode != "zeros" and any(self.padding) else None
        if self.padding == "valid":
            return None
        sides = same(self.kernel_size, self.dilation)
        uneven = any(before != after for before, after in sides)
        return sides if uneven or (self.padding_mode != "zeros" and any(map(any, sides))) else None

    @property
    def geometry(self) -> Geometry:
        """The geometry of the convolutions, without what `sides` pads before them."""
        padding: Sizes = (0,) * self.order
        if self.sides is None and self.padding == "same":
            padding = tuple(before for before, _ in same(self.kernel_size, self.dilation))
        elif self.sides is None and isinstance(self.padding, tuple):
            padding = self.padding
        return Geometry(
            self.kernel_size,
            self.stride,
            padding,
            self.dilation,
            self.output_padding,
            self.transposed,
        )


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
