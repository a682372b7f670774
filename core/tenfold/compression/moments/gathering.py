"""What each layer sees: the second moments of its patches, of so many as that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ...algebra import add_square, mirrored
from ..running import Batch, call, evaluating, hooked
from ..survey import Layer
from .importance import Importance
from .norm import Seen
from .patches import Patches
from .sampling import FEW, Sampling, available, plenty
from .visit import Look, Visit

WIDE = 5000  # inputs of one output: from there on work with a moment takes minutes
MANY_INPUTS = 1024  # with fewer it takes no time


def groups_within(layers: Sequence[Layer], memory: int, batches: int) -> Iterator[list[Layer]]:
    """Part layers, in order, so that the moments of each part take at most `memory` bytes."""
    part: list[Layer] = []
    taken = 0
    for layer in layers:
        size = 0 if is_wide(layer, memory, batches) else moment_bytes(layer)
        if part and taken + size > memory:
            yield part
            part, taken = [], 0
        part.append(layer)
        taken += size
    if part:
        yield part


def moment_bytes(layer: Layer) -> int:
    """What the moment of a layer's patches takes, in float64."""
    config = layer.config
    return 8 * config.groups * prod(config.shape[1:]) ** 2


def is_wide(layer: Layer, memory: int, batches: int) -> bool:
    """Whether a layer has too many inputs, or takes too much memory, for its whole moment.

    So has one that sees fewer patches in so many batches than half its inputs: the whole moment
    says little then that the marginals do not (Ledoit and Wolf 2004,
    doi:10.1016/S0047-259X(03)00096-4).
    """
    inputs = prod(layer.config.shape[1:])
    few = layer.config.order > 0 and inputs > MANY_INPUTS and 2 * available(layer, batches) < inputs
    return inputs > WIDE or few or moment_bytes(layer) > memory


def drawn(layer: Layer, memory: int, batches: int) -> int:
    """How many of a layer's patches are looked at in so many batches."""
    return FEW if is_wide(layer, memory, batches) else plenty(layer)


def measure(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Iterable[Batch],
    count: int,
    memory: int,
    seed: int,
    importance: Importance,
) -> dict[str, Seen]:
    """The second moments of each layer's inputs over `count` batches, by a run of the network."""
    moments = Moments(layers, count, memory)
    at = 0
    numbers: dict[str, int] = {}

    def hook(layer: Layer, sampling: Sampling) -> Callable[..., None]:
        def see(_: nn.Module, given: Any) -> None:
            number = numbers.get(layer.name, 0)
            numbers[layer.name] = number + 1
            worth = importance.at(layer, at, number)
            moments.add(layer.name, given[0], *sampling.draw(given[0].shape, worth))

        return see

    handles = [
        model.get_submodule(layer.name).register_forward_pre_hook(
            hook(layer, Sampling(layer, count, drawn(layer, memory, count), seed))
        )
        for layer in layers
    ]
    with hooked(handles), evaluating(model):
        for at, batch in enumerate(batches):  # noqa: B007 - the hooks see it
            numbers.clear()
            call(model, batch)
    return moments.seen()


class Moments(Look):
    """The second moments of some layers' inputs over `batches`, from patches as they come by.

    A layer that is too wide for its moment has the marginals instead, and one where even those
    would take more than `memory` bytes, nothing.
    """

    def __init__(self, layers: Sequence[Layer], batches: int, memory: int) -> None:
        self.gathered: dict[str, Gathered | None] = {}
        for layer in layers:
            wide = is_wide(layer, memory, batches)
            none = wide and 8 * layer.config.groups * layer.config.shape[1] ** 2 > memory
            made = None if none else Marginals(layer) if wide else Whole(layer)
            self.gathered[layer.name] = made

    @torch.no_grad()
    def add(self, name: str, x: Tensor, where: Tensor, weights: Tensor) -> None:
        """Take in the input of one call of a layer, at some places, each so many times."""
        one = self.gathered.get(name)
        if one is None:
            return
        for patches, some in one.patches.at(x, where):
            one.add(patches, weights[some].to(patches))

    def take(self, visit: Visit) -> None:
        self.add(visit.layer.name, visit.x, visit.where, visit.weights)

    def drop(self, name: str) -> None:
        self.gathered.pop(name, None)

    def forget(self) -> None:
        self.gathered.clear()

    def seen(self) -> dict[str, Seen]:
        """What there was."""
        return {n: Seen() if one is None else one.seen() for n, one in self.gathered.items()}


class Gathered:
    """Sums over the patches of one layer, as they come by."""

    def __init__(self, layer: Layer) -> None:
        self.patches, self.config = Patches(layer), layer.config

    def add(self, patches: Tensor, weights: Tensor) -> None:
        """Take in patches `(groups, n, few)`, each so many times."""
        raise NotImplementedError

    def seen(self) -> Seen:
        """What there was."""
        raise NotImplementedError


class Whole(Gathered):
    """The second moment of the patches."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self.middle: Tensor | None = None  # the mean of the first patches
        self.sum = self.away = torch.empty(0)  # of products, and of the patches, about it
        self.weight = self.square = 0.0

    def add(self, patches: Tensor, weights: Tensor) -> None:
        if self.middle is None:
            self.middle = patches.mean(2, keepdim=True)
            groups, rows, _ = patches.shape
            with torch.inference_mode(False):  # they outlive the mode that a model may be in
                self.sum = patches.new_zeros(groups, rows, rows)
                self.away = patches.new_zeros(groups, rows, dtype=torch.float64)
        apart = patches - self.middle
        add_square(self.sum, apart * weights.sqrt())
        self.away += apart @ weights
        self.weight += float(weights.sum())
        self.square += float(weights.square().sum())

    def seen(self) -> Seen:
        """Sums about a middle cost less rounding than sums about zero, which come of them."""
        if self.middle is None:
            return Seen()
        middle = self.middle.double()
        half = self.away[:, :, None] + self.weight / 2 * middle
        around = torch.cat([half, middle], 2), torch.cat([middle, half], 2)  # two outer products
        whole = mirrored(self.sum).double().baddbmm_(around[0], around[1].mT)
        return Seen(whole=whole, count=effective(self.weight, self.square), weight=self.weight)


class Marginals(Gathered):
    """The second moments of a convolution's input channels, and of each spatial mode's taps."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self.sums: list[Tensor] = []
        self.weight = 0.0

    def add(self, patches: Tensor, weights: Tensor) -> None:
        self.weight += float(weights.sum())
        config = self.config
        apart = (patches * weights.sqrt()).reshape(config.groups, *config.shape[1:], -1)
        rows = [apart.movedim(axis, 1).flatten(2) for axis in range(1, apart.dim() - 1)]
        if not self.sums:
            with torch.inference_mode(False):  # they outlive the mode that a model may be in
                self.sums = [one.new_zeros(*one.shape[:2], one.shape[1]) for one in rows]
        for total, one in zip(self.sums, rows, strict=True):
            add_square(total, one)

    def seen(self) -> Seen:
        sums = tuple(mirrored(one).double() for one in self.sums)
        return Seen(marginals=sums, weight=self.weight)


def effective(weight: float, square: float) -> int:
    """How many equal samples say as much as some of this total weight and sum of its squares."""
    return round(weight * weight / square) if square else 0
