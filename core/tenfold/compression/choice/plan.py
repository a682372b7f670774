"""From measured layers and a budget to one candidate for each, and the network with them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from ...run import ELEMENT
from ..candidates import Candidate, LayerTable, Table, build, put
from ..measurement import calibrated, interpolated
from ..request import CompressionConfig
from ..survey import Layer
from .allocation import allocate, uniform

Choices = dict[str, Candidate]
SHOWN = 8  # layers whose refusals an error lists
FLOAT = 4  # bytes of a parameter of the original, whatever its dtype: what eight bits are less than


class Plan:
    """The costs and losses of all candidates, and what a budget buys of them.

    `fixed` is the cost that no choice changes: other layers' and, for latency, all that is no
    layer. `staying` says what that is, for a message.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        table: Table,
        config: CompressionConfig,
        fixed: float,
        staying: str = "",
    ) -> None:
        self.tables = [table.layers[layer.name] for layer in layers]
        self.parameters = sum(layer.parameters for layer in layers)
        self.config = config
        self.fixed = fixed
        self.staying = staying
        self.names = [layer.name for layer in layers]
        self.candidates = [self._kept(one) for one in self.tables]
        self.costs = [[cost(one, config.metric) for one in found] for found in self.candidates]
        gain = calibrated(table)
        self.errors = [
            _errors(table, found, config, gain)
            for table, found in zip(self.tables, self.candidates, strict=True)
        ]
        self.scales = [1.0] * len(layers)
        self.power = 2.0  # of the errors, whose sum is least

    def without(self, name: str, slow: Candidate) -> Plan:
        """The same without one of a layer's candidates, and those of its kind that cost more."""
        made, row = copy.copy(self), self.names.index(name)
        left = [i for i, one in enumerate(self.candidates[row]) if not _as_slow(one, slow)]
        for field in ("candidates", "costs", "errors"):
            lists = list(getattr(self, field))
            lists[row] = [lists[row][index] for index in left]
            setattr(made, field, lists)
        return made

    def _kept(self, table: LayerTable) -> list[Candidate]:
        """The dense candidate and those that cost less; under `uniform` only of one format.

        One whose few multiply-accumulates go with as much more to read and write saves nothing.
        """
        dense, *others = table.candidates
        metric = self.config.metric
        found = [one for one in others if cost(one, metric) < cost(dense, metric)]
        if metric == "macs":
            found = [one for one in found if effort(one) < effort(dense)]
        if self.config.objective == "uniform" and found:
            found = [one for one in found if one.factorization == found[0].factorization]
        return [dense, *found]

    @property
    def full(self) -> float:
        """What the original costs, none of it in eight bits."""
        if self.config.metric == "parameters":
            return self.fixed + self.parameters
        return self.fixed + sum(layer[0] for layer in self.costs)

    @property
    def least(self) -> float:
        """The smallest fraction that any choice can reach."""
        return (self.fixed + sum(map(min, self.costs))) / self.full

    def choose(self, budget: float) -> Choices:
        """One candidate for each layer, within a fraction of the original's cost.

        The sum of the errors' powers is least: squares add up where errors are independent.

        Raises `ValueError` where no choice is so small.
        """
        spendable = budget * self.full - self.fixed
        if self.config.objective == "uniform":
            chosen = uniform(self.costs, spendable)
        else:
            losses = [
                [(scale * error) ** self.power for error in layer]
                for layer, scale in zip(self.errors, self.scales, strict=True)
            ]
            chosen = allocate(self.costs, losses, spendable)
        if chosen is None:
            more = "include more layers or " if self.config.include or self.config.exclude else ""
            remedy = f"ask for that, or {more or 'allow '}other factorizations"
            least = f"the smallest is {self.least:.4g}; {remedy}"
            raise ValueError(
                unreachable(self.config, budget, least, self.staying) + self.refusals()
            )
        picked = zip(self.names, self.candidates, chosen, strict=True)
        return {name: found[index] for name, found, index in picked}

    def refusals(self) -> str:
        """What was refused of each layer, and why, for an error; empty where nothing was.

        Of latencies also how fast the fastest candidate of each is.
        """
        timed = self.config.metric == "latency"
        said = []
        for table in self.tables:
            words = [f"{who}: {why}" for who, why in table.refusals.items()]
            words += fastest(table) if timed else []
            said += [f"{table.name}: {'; '.join(words)}"] if words else []
        head = "layer by layer" if timed else "it was refused"
        more = [f"and {len(said) - SHOWN} more layers"] if len(said) > SHOWN else []
        return "".join(f"\n  {one}" for one in [head, *said[:SHOWN], *more] if said)

    def rescale(self, names: Sequence[str], by: float) -> None:
        """Take some layers' errors to be so many times what they are predicted to be."""
        for name in names:
            self.scales[self.names.index(name)] *= by

    def spent(self, choices: Mapping[str, Candidate]) -> float:
        """What some choices cost, in all."""
        return self.fixed + sum(cost(one, self.config.metric) for one in choices.values())

    def dense(self, name: str) -> Candidate:
        """The dense candidate of a layer."""
        return self.candidates[self.names.index(name)][0]

    def error_of(self, name: str, candidate: Candidate) -> float:
        """The predicted error of one layer's candidate, alone."""
        row = self.names.index(name)
        return self.errors[row][self.candidates[row].index(candidate)]


def unreachable(config: CompressionConfig, budget: float, least: str, staying: str) -> str:
    """What an error says of a budget: what is the `least`, with the remedy, and what stays."""
    asked = "budgets" if budget in config.budgets else "budget"
    said = f"{asked}={budget:g} of the {config.metric} cannot be reached: {least}"
    return said + (f". What stays of the MACs: {staying}" if staying else "")


def cost(candidate: Candidate, metric: str) -> float:
    """What a candidate costs."""
    if metric == "parameters":
        return candidate.parameters if candidate.stored is None else candidate.stored / FLOAT
    if metric == "macs":
        return candidate.macs
    return float("inf") if candidate.milliseconds is None else candidate.milliseconds


def fastest(table: LayerTable) -> list[str]:
    """How the fastest candidate of a layer compares with the dense layer, in words."""
    dense, *others = table.candidates
    timed = [(one.milliseconds, one) for one in others if one.milliseconds is not None]
    if not timed or not dense.milliseconds:
        return ["no format is smaller than the layer"]
    least, best = min(timed, key=lambda one: one[0])
    return [
        f"the fastest of {len(timed)}, {best.factorization} run by {best.implementation}, takes "
        f"{least / dense.milliseconds:.2f} of the dense layer's time"
    ]


def _as_slow(one: Candidate, slow: Candidate) -> bool:
    kinds = [(c.factorization, c.implementation) for c in (one, slow)]
    return kinds[0] == kinds[1] and one.macs >= slow.macs


def effort(candidate: Candidate) -> int:
    """Multiply-accumulates, and what could be done while the elements move (Williams et al. 2009,
    doi:10.1145/1498765.1498785)."""
    return candidate.macs + ELEMENT * candidate.traffic


def _errors(
    table: LayerTable, found: Sequence[Candidate], config: CompressionConfig, gain: float
) -> list[float]:
    if config.objective == "measured":
        read = dict(zip(map(id, table.candidates), interpolated(table, gain), strict=True))
        return [read[id(one)] for one in found]
    return [one.output_error for one in found]


@contextmanager
def applied(
    model: nn.Module, layers: Sequence[Layer], table: Table, choices: Choices
) -> Iterator[nn.Module]:
    """The model with the chosen layers, until the end."""
    originals = {layer.name: model.get_submodule(layer.name) for layer in layers}
    try:
        yield assemble(model, layers, table, choices)
    finally:
        for layer in layers:
            put(model, layer, originals[layer.name])


def assemble(
    model: nn.Module, layers: Sequence[Layer], table: Table, choices: Choices
) -> nn.Module:
    """Put the chosen layers into the model, and return it."""
    for layer in layers:
        one = choices[layer.name]
        if one.factorization is not None:
            factors = table.layers[layer.name].factors[one.key]
            put(model, layer, build(model.get_submodule(layer.name), layer, one, factors))
    return model
