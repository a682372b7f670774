"""The blocks of a network, and what the original gives where each of them ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..running import Batch, call, evaluating, hooked, tensors
from ..survey import Layer, neighbours

BLOCKS = 20  # the most


@dataclass(frozen=True)
class Block:
    """Neighbouring layers; at its end the layer `end` takes what they made. The last has none."""

    layers: tuple[str, ...]
    end: str | None


def blocks(layers: Sequence[Layer], changed: Sequence[str], most: int = BLOCKS) -> list[Block]:
    """Part a network's layers, in the order of their calls, from the first that was changed."""
    names = [layer.name for layer in layers]
    first = next(at for at, name in enumerate(names) if name in changed)
    parts = neighbours(names[first:], most)
    ends = [*(part[0] for part in parts[1:]), None]
    return [Block(tuple(part), end) for part, end in zip(parts, ends, strict=True)]


@dataclass
class Given:
    """What one run gave at the ends of blocks, call by call, and the outputs, by number."""

    ends: dict[tuple[str | int, int], Tensor] = field(default_factory=dict)

    def bytes(self) -> int:
        return sum(one.numel() * one.element_size() for one in self.ends.values())

    def of(self, block: Block) -> list[tuple[str | int, int]]:
        """The places where a block ends."""
        return [at for at in self.ends if (at[0] if isinstance(at[0], str) else None) == block.end]


@contextmanager
def watched(
    model: nn.Module, found: Sequence[Block], see: Callable[[str, int, Tensor], None]
) -> Iterator[None]:
    """Let the ends of blocks be seen: the layer's name, the number of its call, its input."""
    calls: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def look(_: nn.Module, given: tuple[Any, ...]) -> None:
            number = calls.get(name, 0)
            calls[name] = number + 1
            if given and isinstance(given[0], Tensor) and given[0].is_floating_point():
                see(name, number, given[0])

        return look

    handles = [
        model.get_submodule(block.end).register_forward_pre_hook(hook(block.end), prepend=True)
        for block in found
        if block.end is not None
    ]
    with hooked(handles):
        yield


def given(model: nn.Module, found: Sequence[Block], batch: Batch) -> Given:
    """Run a network, and keep what it gives at the ends."""
    kept = Given()

    def keep(name: str, number: int, x: Tensor) -> None:
        kept.ends[name, number] = x.detach().clone()

    with watched(model, found, keep), evaluating(model):
        for number, output in enumerate(tensors(call(model, batch))):
            if output.is_floating_point():
                kept.ends[number, 0] = output.detach().clone()
    return kept


def squares(wanted: Tensor, x: Tensor) -> tuple[Tensor, float]:
    """The squares of the gap between two tensors, and of the first; where that is finite."""
    if x.shape != wanted.shape:
        return x.new_zeros(()), 0.0
    there = torch.isfinite(wanted)
    if not bool(there.all()):
        x, wanted = x[there], wanted[there]
    return (x - wanted).square().sum(), float(wanted.double().square().sum())
