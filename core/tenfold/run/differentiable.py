"""A chain run with gradients, with what its stages ask of an input and of the factors asked once.

The weights are made anew on each call, as autograd wants; how a factor is viewed and which of
PyTorch's convolutions runs is settled by the first input of a kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from .chain import Chain
from .convolve import convolver
from .stage import Stage, add_bias

Given = Sequence[Any]  # the factors, tensors all, and the bias, or None
Step = Callable[[Given, Tensor], Tensor]


def follow_learning(chain: Chain, given: Given, x: Tensor) -> tuple[Tensor, Step]:
    """What `chain` gives, and the way it went, for other inputs of the same kind."""
    chain = chain.suited(x)
    steps: list[Step] = []
    for stage in chain.stages:
        last = stage is chain.stages[-1] and chain.permutation is None
        steps.append(_step(stage, given, x, last))
        x = steps[-1](given, x)
    if chain.permutation is not None:
        permuted = chain.permutation
        steps.append(lambda given, x: add_bias(permuted(x), given[-1]))
        x = steps[-1](given, x)
    return x, partial(_run, tuple(steps))


def _run(steps: Sequence[Step], given: Given, x: Tensor) -> Tensor:
    for step in steps:
        x = step(given, x)
    return x


def _step(stage: Stage, given: Given, x: Tensor, last: bool) -> Step:
    """One stage; the last adds the bias."""
    weigh, groups, geometry = _weigher(stage, given), stage.groups, stage.geometry
    if not stage.bare:
        run, once = convolver(stage.brought(x), geometry, groups), stage.times == 1

        def around(given: Given, x: Tensor) -> Tensor:
            bias = given[-1] if last else None
            y = run(stage.brought(x), weigh(given), bias if once else None)
            return y if once else add_bias(stage.returned(y, x), bias)

        return around
    run = convolver(x, geometry, groups)
    if last:
        return lambda given, x: run(x, weigh(given), given[-1])
    return lambda given, x: run(x, weigh(given), None)


def _weigher(stage: Stage, given: Given) -> Callable[[Given], Tensor]:
    """`stage.weight`, of a single factor without what leaves it as it is."""
    order, shape, first = stage.contraction.order, stage.weight_shape, stage.factors[0]
    if order is None:
        return stage.weight
    factor = given[first]
    same = (factor.permute(order) if order else factor).shape == shape
    if not order:
        return (lambda given: given[first]) if same else lambda given: given[first].reshape(shape)
    if same:
        return lambda given: given[first].permute(order)
    return lambda given: given[first].permute(order).reshape(shape)
