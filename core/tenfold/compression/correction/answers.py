"""What the original answers at some places of its layers' outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..moments import Importance, Look, Sampling, Visit
from ..running import Batch, batched, call, evaluating, hooked
from ..survey import Layer


@dataclass
class Answer:
    """What the original answers at some places, call by call.

    Of how many items, which places `(few,)`, what each counts `(few,)`, and the answers
    `(groups, out, few)`.
    """

    calls: list[list[tuple[int, Tensor, Tensor, Tensor]]]  # of each batch


class Answers(Look):
    """What the original answered in the run for its gradients, of some layers."""

    def __init__(self, names: Iterable[str], batches: int) -> None:
        self.found = {name: Answer([[] for _ in range(batches)]) for name in names}

    def take(self, visit: Visit) -> None:
        one = self.found.get(visit.layer.name)
        if one is not None:
            made = _answer(visit.layer, visit.x, visit.y, visit.where, visit.weights)
            one.calls[visit.batch].append(made)

    def drop(self, name: str) -> None:
        self.found.pop(name, None)

    def forget(self) -> None:
        self.found.clear()


def answers(
    original: nn.Module,
    layers: Sequence[Layer],
    batches: Sequence[Batch],
    wanted: Mapping[str, int],
    importance: Importance,
    seed: int,
) -> dict[str, Answer]:
    """Run the original once, for what some layers answer at so many places."""
    found = {layer.name: Answer([[] for _ in batches]) for layer in layers}
    samplings = {n.name: Sampling(n, len(batches), wanted[n.name], seed) for n in layers}

    def keep(layer: Layer, batch: int, x: Tensor, y: Tensor) -> None:
        calls = found[layer.name].calls[batch]
        worth = importance.at(layer, batch, len(calls))
        calls.append(_answer(layer, x, y, *samplings[layer.name].draw(x.shape, worth)))

    watch = Watch(layers)
    handles = [  # users' hooks come after
        original.get_submodule(layer.name).register_forward_hook(
            partial(watch.see, layer, keep), prepend=True
        )
        for layer in layers
    ]
    with hooked(handles):
        for batch in watch.over(batches):
            with evaluating(original), suppress(Reached):
                call(original, batch)
    return found


class Watch:
    """Lets the calls of some layers be looked at, and ends a run at the last of them."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.calls = sum(layer.calls for layer in layers)
        self.left = self.at = 0

    def over(self, batches: Sequence[Batch]) -> Iterator[Batch]:
        """Go through the batches, counting anew in each."""
        for self.at, batch in enumerate(batches):
            self.left = self.calls
            yield batch

    def see(
        self, layer: Layer, look: Callable[..., None], _: nn.Module, given: Any, *output: Tensor
    ) -> None:
        """Show `look` the layer, which batch, the input and, where there is one yet, the output."""
        look(layer, self.at, given[0].detach(), *(one.detach() for one in output))
        self.left -= 1
        if not self.left:
            raise Reached


class Reached(Exception):  # noqa: N818 - it is no error
    """The layer that was waited for has run: the rest of the network need not."""


def _answer(
    layer: Layer, x: Tensor, y: Tensor, where: Tensor, weights: Tensor
) -> tuple[int, Tensor, Tensor, Tensor]:
    return len(x), where, weights, _rows(layer, x, y, where) if len(where) else y[:0]


def _rows(layer: Layer, x: Tensor, y: Tensor, where: Tensor) -> Tensor:
    """The responses `(groups, out, few)` to an input at places of the flattened output."""
    order, groups = layer.config.order, layer.config.groups
    x, y = (batched(one, order) if order else one.flatten(0, -2) for one in (x, y))
    for axis, size in enumerate(layer.places(x.shape)[1:], start=2):
        y = y.narrow(axis, 0, size)  # transposed with an output_size it gives some places more
    rows = y.flatten(2).movedim(1, 2).flatten(0, 1) if order else y
    drawn = rows.index_select(0, where.to(y.device)).T
    return drawn.reshape(groups, rows.shape[1] // groups, len(where)).contiguous()
