"""The layers of a network in blocks, and how much is sampled of each, within a memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from ..moments import FEW, Importance, groups_within, is_wide, plenty
from ..running import Batch
from ..survey import Layer, neighbours
from .response import Answer, answers

BLOCKS = 20  # the most, where memory does for them: each takes one run of the compressed network


def blocks(layers: Sequence[Layer], memory: int, batches: int) -> list[list[Layer]]:
    """Part layers in order, so that the sums over each part's patches are within the memory."""
    return [
        block
        for part in neighbours(layers, BLOCKS)
        for block in groups_within(part, memory, batches)
    ]


def wanted(block: Sequence[Layer], memory: int, batches: int) -> dict[str, int]:
    """The places of each layer of a block that the original's answers are kept of."""
    found = {
        layer.name: FEW if is_wide(layer, memory, batches) else plenty(layer) for layer in block
    }
    taken = sum(found[layer.name] * place_bytes(layer) for layer in block)
    share = min(1.0, memory / taken)
    return {name: max(1, int(share * few)) for name, few in found.items()}


def place_bytes(layer: Layer) -> int:
    """What the answer at one place takes: in float32, with where it is and what it counts."""
    return 4 * layer.config.out_channels + 12


def answered(
    original: nn.Module,
    parts: Sequence[Sequence[Layer]],
    batches: Sequence[Batch],
    importance: Importance,
    seed: int,
    memory: int,
) -> Iterator[tuple[Sequence[Layer], Mapping[str, Answer]]]:
    """Each block with what the original answers there.

    The original is run for as many blocks at a time as the memory holds the answers of.
    """
    waiting, found = list(parts), dict[str, Answer]()
    asked = (wanted(block, memory, len(batches)) for block in waiting)
    many = {name: few for one in asked for name, few in one.items()}
    for index, block in enumerate(waiting):
        if block[0].name not in found:
            found, left, together = {}, memory, list[Layer]()
            for other in waiting[index:]:
                left -= sum(many[layer.name] * place_bytes(layer) for layer in other)
                if together and left < 0:
                    break
                together += other
            found = answers(original, together, batches, many, importance, seed)
        yield block, {layer.name: found.pop(layer.name) for layer in block}
