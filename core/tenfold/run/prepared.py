"""A chain with its weights contracted: each stage a fixed convolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from ..plugin import Prepared
from .fixed import FixedConvolution, repeating_pays
from .stage import Stage


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
            way = step.way(x) if isinstance(step, FixedConvolution) else step
            ways.append(way)
            x = way(x)
        return x, ways[0] if len(ways) == 1 else partial(follow, tuple(ways))


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
        inside = None if after is not None or stage.passed > 1 else bias
        groups = stage.groups * times
        fixed = FixedConvolution(weight, inside, stage.geometry, groups, packed, times)
        if stage.permutation is None and stage.passed == 1:
            steps.append(fixed)
        else:
            steps.append(partial(_around, stage, fixed, None if after is not None else bias))
    return steps


def copies(stage: Stage, after: Stage | None, weight: Tensor) -> int:
    """How often the input of a stage is best repeated; 1 where it may not be."""
    if after is None or after.permutation is not None or after.passed * after.groups > 1:
        return 1
    multiplier = weight.shape[0] // stage.groups
    depthwise = stage.groups > 1 and weight.shape[1] == 1 and stage.passed == 1
    transposed = stage.geometry.transposed or after.geometry.transposed
    if depthwise and not transposed and repeating_pays(weight):
        return multiplier
    return 1


def _around(stage: Stage, fixed: FixedConvolution, bias: Tensor | None, x: Tensor) -> Tensor:
    return stage.around(lambda x, _: fixed(x), x, bias)
