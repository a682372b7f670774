"""The blocks of a network: neighbouring layers, between which its tensors are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..running import hooked
from ..survey import Layer, neighbours

BLOCKS = 20  # the most
Place = tuple[str | int, int]  # an end: a layer and which of its calls, or which output and 0


@dataclass(frozen=True)
class Block:
    """Neighbouring layers; the layer `end` takes what they made. The last block has the output."""

    layers: tuple[str, ...]
    end: str | None

    def has(self, place: Place) -> bool:
        """Whether it ends there."""
        return (place[0] if isinstance(place[0], str) else None) == self.end


def blocks(layers: Sequence[Layer], changed: Sequence[str], most: int = BLOCKS) -> list[Block]:
    """Part a network's layers, in the order of their calls; what is from the first changed one on.

    Where blocks end does not depend on which that is.
    """
    names = [layer.name for layer in layers]
    first = next((at for at, name in enumerate(names) if name in changed), len(names))
    parts = neighbours(names, most)
    ends = [*(part[0] for part in parts[1:]), None]
    left = {*names[first:]}
    pairs = zip(parts, ends, strict=False)
    found = [Block(tuple(n for n in part if n in left), end) for part, end in pairs]
    return [block for block in found if block.layers]


Calls = dict[str, int]  # of each end, so far in a run


@contextmanager
def watched(
    model: nn.Module, found: Sequence[Block], see: Callable[[Place, Tensor], None]
) -> Iterator[None]:
    """Let what is given at the ends of blocks within one run be seen."""
    with hooked(hooks(model, found, {}, see)):
        yield


def hooks(
    model: nn.Module, found: Sequence[Block], calls: Calls, see: Callable[[Place, Tensor], None]
) -> list[Any]:
    """What lets that be seen in every run; `calls` are counted on, and empty at the first."""

    def hook(name: str) -> Callable[..., None]:
        def look(_: nn.Module, given: tuple[Any, ...]) -> None:
            number = calls.get(name, 0)
            calls[name] = number + 1
            if given and isinstance(given[0], Tensor) and given[0].is_floating_point():
                see((name, number), given[0])

        return look

    return [
        model.get_submodule(block.end).register_forward_pre_hook(hook(block.end), prepend=True)
        for block in found
        if block.end is not None
    ]
