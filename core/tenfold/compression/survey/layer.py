"""One layer of a network: how it is called, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch

from ...layer import ConvConfig


@dataclass
class Layer:
    """One convolution or linear layer of a network, and how it is called.

    `names` are all the places where it stands; `shapes` those of its input at each call, in one run
    of the network. `reason` says why it is left dense, if it is. `follower` is the batch
    normalisation that takes its output. `already` says how it is factorized, where it is when it
    comes, and `own` whether it computes something of its own; then its multiply-accumulates are
    `counted`.
    """

    names: list[str]
    kind: str
    config: ConvConfig
    parameters: int
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    reason: str | None = None
    request: dict[str, Any] = field(default_factory=dict)
    follower: str | None = None
    already: str = ""
    own: bool = False
    counted: int | None = None

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    @property
    def factorized(self) -> bool:
        """Whether it is so already."""
        return bool(self.already)

    @property
    def calls(self) -> int:
        return len(self.shapes)

    @property
    def has_columns(self) -> bool:
        """Whether it convolves images of one column."""
        size = self.config.geometry.kernel_size
        return len(size) == 2 and size[1] == 1 < size[0] and any(x[-1] == 1 for x in self.shapes)

    def positions(self, shape: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """How many inputs of what spatial size one call's input is."""
        order = self.config.order
        size = tuple(shape[len(shape) - order :])
        if order == 0:
            return int(torch.Size(shape[:-1]).numel()), ()
        return (shape[0] if len(shape) == order + 2 else 1), size

    def maps(self) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
        """Of each call how many inputs there are, and the spatial sizes of one and its output."""
        found = []
        for shape in self.shapes:
            batch, size = self.positions(shape)
            if self.config.sides is not None:
                size = tuple(s + sum(p) for s, p in zip(size, self.config.sides, strict=True))
            found.append((batch, size, self.config.geometry.output_size(size)))
        return found

    def places(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Of one call's input the number of inputs, and the spatial sizes of the output."""
        ((batch, _, output),) = replace(self, shapes=[tuple(shape)]).maps()
        return (batch, *output)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all its calls."""
        if self.counted is not None:
            return self.counted
        kernel = prod(self.config.shape)
        return sum(
            batch * kernel * prod(size if self.config.transposed else output)
            for batch, size, output in self.maps()
        )

    @property
    def traffic(self) -> int:
        """Elements that all its calls read and write."""
        inner, outer = self.config.in_channels, self.config.out_channels
        return sum(
            batch * (inner * prod(size) + outer * prod(output))
            for batch, size, output in self.maps()
        )
