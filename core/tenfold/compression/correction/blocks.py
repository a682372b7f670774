"""The layers of a network in blocks, and how much is sampled of each, within a memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from ..moments import Importance, available, drawn, groups_within
from ..running import Batch
from ..survey import Layer, neighbours
from .answers import Answer, Answers, answers

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
    found = {layer.name: drawn(layer, memory, batches) for layer in block}
    taken = sum(found[layer.name] * place_bytes(layer) for layer in block)
    share = min(1.0, memory / taken)
    return {name: max(1, int(share * few)) for name, few in found.items()}


def place_bytes(layer: Layer) -> int:
    """What the answer at one place takes: in float32, with where it is and what it counts."""
    return 4 * layer.config.out_channels + 12


def looked(layers: Sequence[Layer], memory: int, batches: int) -> Answers:
    """What looks at the answers of layers, in order, for as long as the memory holds these."""
    names, left = list[str](), memory
    for layer in layers:
        places = min(drawn(layer, memory, batches), available(layer, batches))
        left -= places * place_bytes(layer)
        if left < 0:
            break
        names.append(layer.name)
    return Answers(names, batches)


def answered(
    original: nn.Module,
    parts: Sequence[Sequence[Layer]],
    batches: Sequence[Batch],
    importance: Importance,
    seed: int,
    memory: int,
    known: Mapping[str, Answer],
) -> Iterator[tuple[Sequence[Layer], Mapping[str, Answer]]]:
    """Each block with what the original answers there, where that is not known.

    The original is run for as many blocks at a time as the memory holds the answers of.
    """
    waiting, found = list(parts), dict[str, Answer]()
    asked = (wanted(block, memory, len(batches)) for block in waiting)
    many = {name: few for one in asked for name, few in one.items()}
    for index, block in enumerate(waiting):
        if any(layer.name not in known and layer.name not in found for layer in block):
            found, left, together = {}, memory, list[Layer]()
            for other in waiting[index:]:
                lacking = [layer for layer in other if layer.name not in known]
                left -= sum(many[layer.name] * place_bytes(layer) for layer in lacking)
                if together and left < 0:
                    break
                together += lacking
            found = answers(original, together, batches, many, importance, seed)
        yield block, {n.name: known.get(n.name) or found.pop(n.name) for n in block}
