"""A chain with its weights contracted: each stage a fixed convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from ..plugin import Prepared
from .fixed import FixedConvolution, Way, repeating_pays
from .stage import Permutation, Stage


class Around:
    """A fixed convolution between what brings the modes of its input to its axes, and back."""

    def __init__(self, stage: Stage, fixed: FixedConvolution, bias: Tensor | None) -> None:
        self.stage, self.fixed, self.bias = stage, fixed, bias

    def __call__(self, x: Tensor) -> Tensor:
        return self.way(x)(x)

    def way(self, x: Tensor) -> Way:
        """How `x` and all inputs of its kind go; see `FixedConvolution.way`."""
        stage, bias = self.stage, self.bias
        given, order = stage.brought(x), stage.geometry.order
        way, column = self.fixed.way(given), (-1, *(1,) * order)
        bias = None if bias is None else bias.reshape(column)
        return partial(
            _around, stage.permutation, given.shape, way, (stage.out_channels, order), bias
        )


def _around(
    permutation: Permutation | None,
    size: torch.Size,
    way: Way,
    made: tuple[int, int],
    bias: Tensor | None,
    x: Tensor,
) -> Tensor:
    channels, order = made
    y = way((x if permutation is None else permutation(x)).reshape(size))
    y = y.reshape(x.shape[0], channels, *y.shape[y.dim() - order :])
    return y if bias is None else y.add_(bias)


class PreparedChain:
    """Fixed convolutions, one after another."""

    def __init__(self, steps: Sequence[Prepared]) -> None:
        self.steps = steps

    def __call__(self, x: Tensor) -> Tensor:
        return self.follow(x)[0]

    def follow(self, x: Tensor) -> tuple[Tensor, Prepared]:
        """The output, and the way it went: a quicker one for inputs of the same kind."""
        ways = []
        for step in self.steps:
            way = step.way(x) if isinstance(step, FixedConvolution | Around) else step
            ways.append(way)
            x = way(x)
        return x, ways[0] if len(ways) == 1 else partial(follow, tuple(ways))


class BySize:
    """One of two prepared chains, by the size of the input; each is prepared when first met."""

    def __init__(
        self,
        small: Callable[[], PreparedChain | BySize],
        below: float,
        large: Callable[[], PreparedChain | BySize],
    ) -> None:
        self.make, self.below = (small, large), below
        self.made: dict[bool, PreparedChain | BySize] = {}

    def __call__(self, x: Tensor) -> Tensor:
        return self.follow(x)[0]

    def follow(self, x: Tensor) -> tuple[Tensor, Prepared]:
        """The output, and the way it went: a quicker one for inputs of the same kind."""
        large = x.numel() >= self.below
        if large not in self.made:
            with as_prepared(x.device.type):
                self.made[large] = self.make[large]()
        return self.made[large].follow(x)


@contextmanager
def as_prepared(device: str) -> Iterator[None]:
    """What is kept for later inputs is made so: plain numbers, in the parameters' own dtype."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device, enabled=False):
        yield


def follow(ways: Sequence[Prepared], x: Tensor) -> Tensor:
    """Run one after another."""
    for way in ways:
        x = way(x)
    return x


def fixed_stages(
    stages: Sequence[Stage], factors: Sequence[Tensor], bias: Tensor | None, packed: bool
) -> list[Prepared]:
    """Each stage with its weight, the last with the bias, as a function of `x` alone.

    A depthwise convolution that makes several channels of each input channel has no fast kernel;
    one of the input repeated has. It gives the channels in another order, with those of one copy
    together, which the next stage's weight then follows.
    """
    steps: list[Prepared] = []
    times = 1
    for stage, after in zip(stages, (*stages[1:], None), strict=True):
        weight = stage.weight(factors)
        if times > 1:
            weight = weight.unflatten(1, (-1, times)).transpose(1, 2).flatten(1, 2)
        times = copies(stage, after, weight) if packed else 1
        if times > 1:
            weight = weight.unflatten(0, (-1, times)).transpose(0, 1).flatten(0, 1)
        inside = None if after is not None or stage.times > 1 else bias
        groups = stage.groups * times
        fixed = FixedConvolution(weight, inside, stage.geometry, groups, packed, times)
        behind = bias if after is None and stage.times > 1 else None
        steps.append(fixed if stage.bare else Around(stage, fixed, behind))
    return steps


def copies(stage: Stage, after: Stage | None, weight: Tensor) -> int:
    """How often the input of a stage is best repeated; 1 where it may not be."""
    if after is None or after.permutation is not None or after.times * after.groups > 1:
        return 1
    multiplier = weight.shape[0] // stage.groups
    depthwise = stage.groups > 1 and weight.shape[1] == 1 and stage.times == 1
    transposed = stage.geometry.transposed or after.geometry.transposed
    if depthwise and not transposed and repeating_pays(weight):
        return multiplier
    return 1
