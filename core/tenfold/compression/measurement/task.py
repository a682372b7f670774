"""What compressing one layer alone does to the whole network: measured at a few candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from ...algebra import on_one_thread
from ...layer import FactorizedConv, kernel_of
from ..candidates import (
    Candidate,
    LayerTable,
    Meter,
    alignment,
    build,
    candidates,
    dense,
    fits,
    put,
    rounded,
    roundings,
)
from ..moments import Norm, Seen
from ..request import CompressionConfig
from ..running import (
    Batch,
    Difference,
    call,
    change,
    copied,
    counted,
    evaluating,
    outputs,
    tensors,
    undisturbed,
)
from ..survey import Layer
from .replay import Replay

Evaluate = Callable[[nn.Module], float]
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
    def of(
        cls,
        model: nn.Module,
        batches: Sequence[Batch],
        evaluate: Evaluate | None,
        replay: Replay | None = None,
    ) -> Judge:
        """Run the original; a `replay` keeps what its layers give.

        Raises `TypeError` where `evaluate` gives no number, and `ValueError` where the original
        gives nothing finite.
        """
        references = outputs(model, batches) if replay is None else replay.run(model, batches)
        for found in references:
            if all(y.numel() and not bool(torch.isfinite(y).any()) for y in found):
                raise ValueError("the model gives nothing finite on the calibration: repair it")
        if evaluate is None:
            return cls(batches, references, replay=replay)
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

    def onwards(self, model: nn.Module, name: str, replay: Replay) -> float:
        """As `change`, where the layers in front of `name` are as they will stay."""
        found = Difference()
        for index, (batch, reference) in enumerate(zip(self.batches, self.references, strict=True)):
            with evaluating(model), replay.keeping(model, name, index):
                found.add(reference, tensors(call(model, batch)))
        return found.relative


def score(model: nn.Module, evaluate: Evaluate, name: str = "evaluate") -> float:
    """What the user's function gives, as a float; the training flags are as before afterwards."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            found: Any = evaluate(model)
        return float(found)
    except (TypeError, ValueError) as fault:
        raise TypeError(f"{name} must take a model and return a number: {fault}") from fault
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
    known: bool = False  # whether `worth` is that of the network's output
    levels: tuple[float, ...] = LEVELS
    shared: bool = False  # whether others run the model at the same time

    def __call__(self) -> LayerTable:
        """Decompose the layer in every way, and run the network with a few of them."""
        if self.shared:
            with undisturbed():
                return replace(self, model=copied(self.model), shared=False)()
        conv = self.model.get_submodule(self.layer.name)
        kernel = kernel_of(conv)
        largest = [kernel.numel(), *(one.numel() for one in (self.seen.whole,) if one is not None)]
        with on_one_thread(max(largest)), torch.no_grad():
            table = self.decomposed(conv, kernel)
        if self.judge is not None:
            with counted() as runs:
                self.measure(table, conv, self.judge)
            table.items = runs.items
        return table

    def decomposed(self, conv: nn.Module, kernel: Tensor) -> LayerTable:
        """The candidates, and what they cost and lose."""
        layer, config = self.layer, self.config
        norm = Norm.of(self.seen, self.worth, kernel)
        meter = Meter(kernel, norm, layer.config.groups, config.seed)
        first = dense(layer, conv, meter, config.bits)
        table = LayerTable(layer.name, [first], {}, self.sensitivity(meter.energy[0]))
        base = alignment(layer, config.multiple)
        ways: Sequence[Any] = config.implementations
        if isinstance(conv, FactorizedConv):
            ways, found = [conv.runner], roundings(layer, conv, kernel, norm, base)
        else:
            found = fits(layer, kernel, norm, config.factorizations, base, config.seed)
        for fitted in found:
            for one in candidates(layer, meter, fitted, ways, table.refusals, config.bits):
                table.candidates.append(one)
                table.factors[one.key] = (fitted.truncated or fitted).factors
        return table

    def sensitivity(self, energy: float) -> float:
        """The network's error to first order, over a candidate's weighted one."""
        if not self.known or self.worth is None:
            return 0.0
        height = float(self.worth.diagonal(dim1=1, dim2=2).mean())
        return float((energy * height * self.seen.height) ** 0.5)

    def measure(self, table: LayerTable, conv: nn.Module, judge: Judge) -> None:
        """Run the network with the best candidate near each level of cost."""
        if judge.replay is None and judge.evaluate is None:
            memory = self.config.memory
            judge.replay = Replay.whole(self.model, self.names, judge.batches, memory)
        for index in spread(table.candidates, self.config.metric, self.levels):
            one = table.candidates[index]
            made = build(conv, self.layer, one, table.factors[one.key])
            module = made if self.config.bits is None else rounded(conv, made)
            with replaced(self.model, self.layer, module):
                table.candidates[index] = one.model_copy(
                    update={"error": judge.alone(self.model, self.layer.name)}
                )


def spread(found: Sequence[Candidate], metric: str, levels: Sequence[float] = LEVELS) -> list[int]:
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
    return sorted({min(frontier, key=lambda i: abs(logs[i] - log(level))) for level in levels})
