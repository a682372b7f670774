"""The order of a contraction, found once; while a model is compiled it is a constant of its."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..network import Contraction, Modes, plan_contraction


@lru_cache(maxsize=4096)
def found(spelled: str) -> Contraction:
    """The plan for `"a r,r b->a b|a=4 b=3 r=2"`; see `plan_contraction`."""
    equation, _, sized = spelled.partition("|")
    left, _, right = equation.partition("->")
    sizes = {mode: int(size) for mode, _, size in (one.partition("=") for one in sized.split())}
    modes = [tuple(one.split()) for one in left.split(",")]
    return plan_contraction(modes, tuple(right.split()), sizes)


def planned(spelled: str) -> Any:
    """Its steps, which are plain data, and which no compiler looks into."""
    return found(spelled).steps


# What torch.compiler.assume_constant_result does; it would import the compiler here and now.
planned._dynamo_marked_constant = True  # type: ignore[attr-defined]


def contracted(modes: Sequence[Modes], tensors: Sequence[Tensor], output: Modes) -> Tensor:
    """What tensors of these modes contract to, with the modes `output`."""
    sizes = {}
    for some, one in zip(modes, tensors, strict=True):
        for mode, size in zip(some, one.shape, strict=True):
            sizes[mode] = size
    left = ",".join([" ".join(some) for some in modes])
    sized = " ".join([f"{mode}={size}" for mode, size in sizes.items()])
    spelled = f"{left}->{' '.join(output)}|{sized}"
    if not torch.compiler.is_compiling():
        return found(spelled)(tensors)
    pending = tuple(tensors)  # the same steps, as data, which is what a compiler takes in
    for positions, equation in planned(spelled):
        taken = [pending[position] for position in positions]
        rest = [one for place, one in enumerate(pending) if place not in positions]
        pending = (*rest, torch.einsum(equation, *taken))
    return pending[0]
