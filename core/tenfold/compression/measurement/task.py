"""What compressing one layer alone does to the whole network: measured at a few candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from math import exp, log
from typing import Any

import torch
from torch import Tensor, nn

from ...algebra import by_group
from ...layer import read_kernel
from ..candidates import (
    Candidate,
    Fitted,
    LayerTable,
    alignment,
    build,
    candidates,
    dense,
    fits,
    put,
)
from ..moments import Norm, Seen
from ..request import CompressionConfig
from ..running import (
    Batch,
    Difference,
    call,
    change,
    copied,
    evaluating,
    outputs,
    tensors,
    undisturbed,
)
from ..survey import Layer
from .replay import Replay

Evaluate = Callable[[nn.Module], float]
LEAST = 1e-6  # of an error, in the layer's own: among those that measure nothing it still counts
GAIN = 1.5  # the most by which weighted least squares lowers an error, as a rule
LEVELS = (0.5, 0.22, 0.1)  # fractions of the dense cost at which the network is run


@dataclass
class Judge:
    """How much worse a changed network is than the original: the error, or what a score loses.

    `batches` are the inputs, `references` the original's outputs on them; with `evaluate` the score
    is taken instead, `best` being the original's.
    """

    batches: Sequence[Batch]
    references: Sequence[Sequence[Tensor]]
    evaluate: Evaluate | None = None
    best: float = 0.0
    replay: Replay | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "replay": None}  # it is made faster than sent

    @classmethod
    def of(cls, model: nn.Module, batches: Sequence[Batch], evaluate: Evaluate | None) -> Judge:
        """Run the original.

        Raises `TypeError` where `evaluate` gives no number, and `ValueError` where the original
        gives nothing finite.
        """
        references = outputs(model, batches)
        for found in references:
            if all(y.numel() and not bool(torch.isfinite(y).any()) for y in found):
                raise ValueError("the model gives nothing finite on the calibration: repair it")
        if evaluate is None:
            return cls(batches, references)
        return cls(batches, references, evaluate, score(model, evaluate))

    def __call__(self, model: nn.Module) -> float:
        if self.evaluate is not None:
            return max(0.0, self.best - score(model, self.evaluate))
        return self.change(model)

    def change(self, model: nn.Module) -> float:
        """The relative change of the outputs."""
        return change(model, self.batches, self.references)

    def alone(self, model: nn.Module, name: str) -> float:
        """As the call, where the layer `name` is all that was changed."""
        if self.evaluate is not None or self.replay is None:
            return self(model)
        found = Difference()
        for index, (batch, reference) in enumerate(zip(self.batches, self.references, strict=True)):
            with evaluating(model), self.replay.before(model, name, index):
                found.add(reference, tensors(call(model, batch)))
        return found.relative


def score(model: nn.Module, evaluate: Evaluate) -> float:
    """What the user's function gives, as a float; the training flags are as before afterwards."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            found: Any = evaluate(model)
        return float(found)
    except (TypeError, ValueError) as fault:
        raise TypeError(f"evaluate must take a model and return a number: {fault}") from fault
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def replaced(model: nn.Module, layer: Layer, module: nn.Module) -> Iterator[None]:
    """With one layer replaced."""
    original = model.get_submodule(layer.name)
    put(model, layer, module)
    try:
        yield
    finally:
        put(model, layer, original)


@dataclass(frozen=True)
class Task:
    """One layer, with all that measuring it takes; sent to another process as it is."""

    model: nn.Module
    layer: Layer
    config: CompressionConfig
    seen: Seen
    worth: Tensor | None
    judge: Judge | None  # None where no end-to-end error is asked for
    names: tuple[str, ...]  # of all layers of the network
    shared: bool = False  # whether others run the model at the same time

    def __call__(self) -> LayerTable:
        """Decompose the layer in every way, and run the network with a few of them."""
        if self.shared:
            with undisturbed():
                return replace(self, model=copied(self.model), shared=False)()
        layer, config = self.layer, self.config
        conv = self.model.get_submodule(layer.name)
        kernel = read_kernel(conv)
        norm = Norm.of(self.seen, self.worth, kernel)
        table = LayerTable(layer.name, [dense(layer)], {})
        base = alignment(layer, config.multiple)
        meter = norm.sketched(config.seed)
        energy = meter.squared(by_group(kernel, layer.config.groups))
        made: list[Fitted] = []

        def add(fitted: Fitted) -> None:
            ways, refusals = config.implementations, table.refusals
            for one in candidates(layer, kernel, meter, energy, fitted, ways, refusals):
                table.candidates.append(one)
                table.factors[one.key] = fitted.source or fitted.factors
                made.append(fitted)

        with torch.no_grad():
            for fitted in fits(layer, kernel, norm, config.factorizations, base, config.seed):
                add(fitted)
            for index in promising(table.candidates, config.metric):
                refined = made[index - 1].refined()
                if refined is not None:
                    add(refined)
        if self.judge is not None:
            self.measure(table, conv, self.judge)
        return table

    def measure(self, table: LayerTable, conv: nn.Module, judge: Judge) -> None:
        """Run the network with the best candidate near each level of cost."""
        if judge.replay is None and judge.evaluate is None:
            memory = self.config.memory
            judge.replay = Replay(self.model, self.names, judge.batches, memory)
        for index in spread(table.candidates, self.config.metric):
            one = table.candidates[index]
            module = build(conv, self.layer, one, table.factors[one.key])
            with replaced(self.model, self.layer, module):
                table.candidates[index] = one.model_copy(
                    update={"error": judge.alone(self.model, self.layer.name)}
                )


def promising(found: Sequence[Candidate], metric: str) -> list[int]:
    """The candidates that none of lower cost beats by more than refining them may gain."""
    costs = [one.parameters if metric == "parameters" else one.macs for one in found]
    kept, best = [], float("inf")
    for index in sorted(range(1, len(found)), key=lambda i: (costs[i], found[i].weighted)):
        best = min(best, found[index].weighted)
        if costs[index] < costs[0] and found[index].weighted <= GAIN * best:
            kept.append(index)
    return kept


def spread(found: Sequence[Candidate], metric: str) -> list[int]:
    """The candidates nearest to each level of the dense cost, of those on the frontier."""
    costs = [one.parameters if metric == "parameters" else one.macs for one in found]
    frontier: list[int] = []
    for index in sorted(range(1, len(found)), key=lambda i: (costs[i], found[i].weighted)):
        best = found[frontier[-1]].weighted if frontier else float("inf")
        if costs[index] < costs[0] and found[index].weighted < best:
            frontier.append(index)
    if not frontier:
        return []
    logs = [log(max(one, 1) / max(costs[0], 1)) for one in costs]
    return sorted({min(frontier, key=lambda i: abs(logs[i] - log(level))) for level in LEVELS})


def interpolated(table: LayerTable) -> list[float]:
    """The error of every candidate, by its weighted error from those that were measured.

    The two are nearly proportional, so the logarithm of one is interpolated in that of the other,
    and continued with slope 1. Errors never fall as the weighted error grows.
    """
    points = sorted((one.weighted, one.error) for one in table.candidates if one.error is not None)
    points = [(w, e) for w, e in points if w > 0 and e < float("inf")]
    if not points:
        return [one.weighted for one in table.candidates]
    grown, most = [], 0.0
    for weighted, error in points:
        most = max(most, error, LEAST * weighted)
        grown.append((log(weighted), log(most)))
    return [_read(grown, one.weighted) for one in table.candidates]


def _read(points: Sequence[tuple[float, float]], weighted: float) -> float:
    if weighted <= 0:
        return 0.0
    at = log(weighted)
    if at <= points[0][0]:
        return exp(points[0][1] + at - points[0][0])
    for (x0, y0), (x1, y1) in pairwise(points):
        if at <= x1:
            return exp(y0 + (y1 - y0) * (at - x0) / ((x1 - x0) or 1.0))
    return exp(points[-1][1] + at - points[-1][0])
