"""A whole trained network made smaller by measured error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ..arguments import check_batches
from .candidates import Table, fingerprint, reject
from .choice import Choices, Plan, Trial, applied, assemble, refined, smallest
from .correction import correct, recalibrate
from .measurement import (
    PASSES,
    SCORES,
    Evaluate,
    Judge,
    Task,
    few,
    levels_of,
    score,
    time_layer,
    time_networks,
)
from .moments import Importance, groups_within, importances, measure, scaling
from .reporting import Change, Compression, Point, Report, summarise
from .request import CompressionConfig
from .running import (
    Batch,
    Progress,
    Runs,
    check_call,
    check_finite,
    copied,
    counted,
    run_all,
    shapes,
    shown,
    size,
    undisturbed,
)
from .survey import Layer, chosen, divide, filled, observe, select, staying, survey

TIGHTENINGS = 4  # of a latency budget that the whole network missed
NOISE = 0.05  # of a measured latency


def compress(
    model: nn.Module,
    config: CompressionConfig | None = None,
    *,
    example_inputs: Batch,
    calibration: Iterable[Batch] | None = None,
    evaluate: Evaluate | None = None,
    executor: Executor | None = None,
    table: Table | str | os.PathLike[str] | None = None,
    **config_fields: Any,
) -> Compression:
    """Make a copy of `model` that keeps within a budget and changes its output least.

    Args:
        config, config_fields: what is wanted: see `CompressionConfig`.
        example_inputs: what the model takes (a tensor, a tuple of arguments or a dict of keywords):
            MACs and latencies are those of one run on it.
        calibration: batches of inputs, as `example_inputs`, without labels; a part is held out to
            judge by. `example_inputs` where there are none.
        evaluate: a score of a model, higher being better, that counts instead of the change of the
            output.
        executor: where layers are measured, as a process pool or Dask's; here without one.
        table: a folder, in which what is measured is kept, so that an interrupted call goes on
            where it was; or the `table` of an earlier compression.

    The model is not changed, whatever happens. A layer is decomposed in the norm of its inputs
    (Zhang et al. 2016, arXiv 1505.06798), each as often as its place matters to the output; its
    error is measured alone on the output, and an exact knapsack spends the budget (one of errors:
    Liebenwein et al. 2021, arXiv 2107.11442).

    Raises `ValueError` or `TypeError`, naming the
    argument and the remedy, for a bad one or a budget that cannot be reached, and `RuntimeError`,
    naming the layer, where measuring one fails.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    >>> x = torch.randn(4, 8, 12, 12)
    >>> small = compress(net, budget=0.5, example_inputs=x, progress=False)
    >>> small.report.macs.after <= 0.5 * small.report.macs.before
    True
    """
    asked = CompressionConfig.parse(config, config_fields)
    _check(model, asked, evaluate, executor)
    with undisturbed(), shown(asked.progress) as progress, counted() as runs:
        run = Run(model, asked, example_inputs, calibration, evaluate, progress, runs)
        found = run.measured(table, executor)
        return run.compressed(found)


class Run:
    """One compression: the copy that is measured, its layers and what they are judged by."""

    def __init__(
        self,
        model: nn.Module,
        config: CompressionConfig,
        example: Batch,
        calibration: Iterable[Batch] | None,
        evaluate: Evaluate | None,
        progress: Progress,
        runs: Runs,
    ) -> None:
        self.runs = runs
        self.config, self.example, self.evaluate = config, example, evaluate
        self.progress = progress
        check_call(model, example, "example_inputs")
        given = [example] if calibration is None else check_batches("calibration", calibration)
        self.batches = list(given)
        if not self.batches:
            raise ValueError("calibration has no batch: give some inputs, or leave it out")
        for index, batch in enumerate(self.batches):
            check_call(model, batch, f"calibration[{index}]")
        self.model = copied(model)
        self.every = survey(self.model, example)
        self.outside = observe(self.model, example, self.every, evaluate is not None)
        select(self.model, self.every, config.include, config.exclude)
        reject(self.model, chosen(self.every), example, config)
        self.layers = chosen(self.every)
        check_finite(self.model, example, "example_inputs")
        for index, batch in enumerate(self.batches):
            check_finite(self.model, batch, f"calibration[{index}]")
        self.batches = filled(self.batches)
        if not self.batches:
            raise ValueError("calibration has only batches of no items: give some inputs")
        self.fitted, self.held = divide(self.batches, config.holdout, self.model)
        step = max(1, len(self.fitted) // config.probes)
        self.probes = self.fitted[::step][: config.probes]

    @cached_property
    def judge(self) -> Judge:
        """What single layers and whole choices are judged by."""
        return Judge.of(self.model, self.probes, self.evaluate)

    @cached_property
    def final(self) -> Judge:
        """What the result is judged by: the change on held-out inputs."""
        return Judge.of(self.model, self.held, self.evaluate)

    @cached_property
    def importance(self) -> Importance:
        """What the layers' outputs are worth: to the network's, or to the normalisation after."""
        config, found = self.config, Importance()
        if config.objective == "measured":
            batches = self.progress.over(self.fitted, "importance")
            found = importances(self.model, self.layers, batches, config.seed, config.memory)
        for layer in self.layers:
            if layer.follower is not None:
                follower = self.model.get_submodule(layer.follower)
                found.gains[layer.name] = scaling(follower, layer.config.groups)
        return found

    def measured(
        self, place: Table | str | os.PathLike[str] | None, executor: Executor | None
    ) -> Table:
        """Measure the layers that the table does not have yet."""
        config = self.config
        key = fingerprint(self.model, self.batches, self.example, config, self.evaluate)
        table = Table.open(place, key)
        missing = [layer for layer in self.layers if layer.name not in table.layers]
        for part in groups_within(missing, config.memory, len(self.fitted)):
            tasks = self.tasks(part, executor is not None)
            done = run_all(tasks, executor)
            for _, found in self.progress.over(done, "layers", len(tasks), lambda one: one[0]):
                table.add(found)
                self.runs.items += found.items
        if "single" in self.__dict__:
            self.single[0].replay = None
        if config.metric == "latency":
            for layer in self.progress.over(self.layers, "latency", name=lambda one: one.name):
                time_layer(self.model, layer, table.layers[layer.name])
        return table

    @cached_property
    def single(self) -> tuple[Judge, tuple[float, ...]]:
        """What single layers are judged by, and at which levels of cost."""
        passes = PASSES * sum(map(size, self.batches))
        batches, runs = few(self.model, self.probes, len(self.layers), passes)
        runs = runs if self.evaluate is None else SCORES
        return Judge.of(self.model, batches, self.evaluate), levels_of(len(self.layers), runs)

    def tasks(self, layers: Sequence[Layer], shared: bool) -> dict[str, Task]:
        """What has to be measured, with the moments that it takes."""
        config, importance = self.config, self.importance
        count = len(self.fitted)
        counted = self.progress.over(self.fitted, "calibration")
        seen = measure(self.model, layers, counted, count, config.memory, config.seed, importance)
        judge, levels = self.single if config.objective == "measured" else (None, ())
        return {
            layer.name: Task(
                self.model,
                layer,
                config,
                seen[layer.name],
                importance.worth(layer),
                judge,
                tuple(one.name for one in self.every),
                layer.name in importance.channels,
                levels,
                shared,
            )
            for layer in layers
        }

    def compressed(self, table: Table) -> Compression:
        """Choose, build, correct and report."""
        config = self.config
        kept = staying(self.every, self.outside)
        plan = Plan(self.layers, table, config, self.fixed(table), kept)
        budgets: list[float | None] = [*config.budgets]
        if config.budget is not None and config.budget not in budgets:
            budgets.append(config.budget)
        made = [self.network(plan, table, budget) for budget in budgets or [None]]
        chosen = made[-1] if config.budget is None else made[budgets.index(config.budget)]
        curve = [self.point(plan, one) for one in made] if config.budgets else []
        return Compression(chosen.model, self.report(plan, chosen, curve), table)

    def fixed(self, table: Table) -> float:
        """What no choice changes: of parameters and MACs what other layers have."""
        config = self.config
        if config.metric == "parameters":
            own = sum(layer.parameters for layer in self.layers)
            return float(sum(p.numel() for p in self.model.parameters()) - own)
        if config.metric == "macs":
            kept = sum(layer.macs for layer in self.every if layer.reason is not None)
            return float(kept + self.outside)
        (whole,) = time_networks([self.model], self.example)
        tables = (table.layers[layer.name] for layer in self.layers)
        return max(0.0, whole - sum(one.candidates[0].milliseconds or 0.0 for one in tables))

    def network(self, plan: Plan, table: Table, budget: float | None) -> Made:
        """The network of a budget, or the smallest that keeps the error or score asked for."""
        config = self.config
        if config.max_error is not None:
            return self.within(plan, table, config.max_error)
        if config.min_score is not None:
            choices = smallest(
                plan, self.trial(table, self.final), self.final.best - config.min_score
            )
            made = self.finished(table, choices, None, config.correct)
            kept = made.score is not None and made.score >= config.min_score
            return made if kept else self.finished(table, choices, None, False)
        assert budget is not None
        choices = plan.choose(budget)
        if config.objective == "measured":
            choices = refined(plan, self.trial(table, self.judge), budget)
        if config.metric == "latency":
            choices = self.fast(plan, table, choices, budget)
        return self.finished(table, choices, budget, config.correct)

    def within(self, plan: Plan, table: Table, limit: float) -> Made:
        """The smallest network whose output changes by at most `limit`.

        Looked for without corrections; as far as these lower the error, once more beyond the limit.
        """
        trial = self.trial(table, self.final.change)
        choices = smallest(plan, trial, limit)
        made = self.finished(table, choices, None, self.config.correct)
        if self.config.correct and 0 < made.error < limit:
            beyond = smallest(plan, trial, limit * limit / made.error)
            if beyond != choices:
                smaller = self.finished(table, beyond, None, True)
                if smaller.error <= limit:
                    return smaller
        return made

    def trial(self, table: Table, judge: Callable[[nn.Module], float]) -> Trial:
        """What measures choices, uncorrected."""

        def measure(choices: Choices) -> float:
            with applied(self.model, self.layers, table, choices) as changed:
                return judge(changed)

        return measure

    def finished(
        self, table: Table, choices: Choices, budget: float | None, correcting: bool
    ) -> Made:
        """The network of some choices, corrected or not, and what it is worth."""
        model = self.assembled(table, choices)
        if correcting:
            self.correct(model)
        error = self.final.change(model)
        found = None if self.evaluate is None else score(model, self.evaluate)
        return Made(budget, choices, model, error, found)

    def assembled(self, table: Table, choices: Choices) -> nn.Module:
        """A copy of the model with the chosen layers."""
        return assemble(copied(self.model), self.layers, table, choices)

    def fast(self, plan: Plan, table: Table, choices: Choices, budget: float) -> Choices:
        """Choices whose network is measured to be fast enough: layers together are not their sum.

        Where it is too slow, the budget is tightened by as much, a few times. Raises `ValueError`
        where that does not do.
        """
        target = budget
        tried: list[tuple[float, int, Choices]] = []
        for _ in range(TIGHTENINGS):
            model = self.assembled(table, choices)
            before, after = time_networks([self.model, model], self.example)
            tried.append((after / before, len(tried), choices))
            if after <= budget * before or target <= plan.least:
                break
            target = max(plan.least, target * budget * before / after)
            choices = plan.choose(target)
        reached, _, choices = min(tried)
        if reached > budget * (1 + NOISE):
            raise ValueError(
                f"budget={budget:g} of the latency cannot be reached: the fastest network takes "
                f"{reached:.2f} of the original's time on this machine; ask for that, or include "
                "more layers or other factorizations"
            )
        return choices

    def correct(self, model: nn.Module) -> None:
        """Fit the compressed layers to the original's responses, and the normalisations."""
        steps = correct(
            self.model,
            model,
            self.layers,
            self.fitted,
            self.final,
            self.config.seed,
            self.importance,
            self.config.memory,
        )
        for _ in self.progress.over(steps, "correction", len(self.layers), str):
            pass
        recalibrate(model, self.fitted, self.final)

    def point(self, plan: Plan, made: Made) -> Point:
        """One budget's place on the curve."""
        report = self.report(plan, made, ())
        return Point(
            budget=made.budget or 0.0,
            parameters=report.parameters.after,
            macs=report.macs.after,
            milliseconds=None if report.milliseconds is None else report.milliseconds.after,
            error=made.error,
            score=made.score,
        )

    def report(self, plan: Plan, made: Made, curve: Sequence[Point]) -> Report:
        """What was done, and what came of it."""
        before, after = time_networks([self.model, made.model], self.example)
        return summarise(
            self.every,
            plan,
            made.choices,
            self.config,
            outside=self.outside,
            parameters=Change(
                before=sum(p.numel() for p in self.model.parameters()),
                after=sum(p.numel() for p in made.model.parameters()),
            ),
            milliseconds=Change(before=before, after=after),
            error=made.error,
            score=None if made.score is None else Change(before=self.final.best, after=made.score),
            curve=curve,
            passes=self.runs.items / sum(map(size, self.batches)),
            inputs=shapes(self.example),
            device=next(self.model.parameters()).device,
        )


@dataclass(frozen=True)
class Made:
    """One budget's network."""

    budget: float | None
    choices: Choices
    model: nn.Module
    error: float
    score: float | None


def _check(model: nn.Module, config: CompressionConfig, evaluate: Any, executor: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={type(model).__name__} must be an nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("model is scripted: give the one that it was made from")
    if hasattr(model, "_orig_mod"):
        raise TypeError("model is compiled: give model._orig_mod, and compile what comes of it")
    if evaluate is not None and not callable(evaluate):
        raise TypeError(f"evaluate={evaluate!r} must be a function of a model that gives a number")
    if config.min_score is not None and evaluate is None:
        raise ValueError(f"min_score={config.min_score} needs evaluate=, which gives the score")
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            f"executor={type(executor).__name__} must be a concurrent.futures.Executor: of a Dask "
            "client, client.get_executor()"
        )
