"""What is told of the networks that were made: times, places on the curve, the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import nn

from ..tuning import device_name, engine
from .candidates import Speed, kernel_error
from .choice import Choices, Plan, Watch, slower
from .correction import Finisher, Made
from .measurement import (
    EAGER,
    Evaluate,
    Side,
    better,
    lay_last,
    time_elsewhere,
    time_in_place,
)
from .measurement import score as measure_score
from .reporting import Change, Point, Refinement, Report, Slower, Stage, summarise
from .request import CompressionConfig
from .running import Runs, of_their_mean, shapes
from .survey import Subject, format_of

ANEW = "once more"  # of a place where a network is timed that was chosen by its time


class Outcome(NamedTuple):
    """A network, and how it came to it."""

    made: Made
    gained: Refinement | None
    slow: Slower | None = None
    stages: tuple[Stage, ...] = ()
    last: bool = False  # whether it was given its channels last


@dataclass(frozen=True)
class Account:
    """Of the networks that come of one compression."""

    subject: Subject
    plan: Plan
    maker: Finisher
    config: CompressionConfig
    runs: Runs
    shown: Evaluate | None
    before: float | None  # what the original scores by the function that is only shown

    @property
    def device(self) -> torch.device:
        return next(self.subject.model.parameters()).device

    @cached_property
    def original(self) -> Side:
        """The original and the example in the memory format in which it runs faster."""
        return better(self.subject.model, self.subject.layers, self.subject.example)

    @cached_property
    def constant(self) -> float | None:
        """The error were one output given for every input."""
        return of_their_mean(self.maker.judges.final.references)

    @property
    def place(self) -> str:
        """Where networks are timed."""
        place = f"{device_name(self.device)}, {torch.get_num_threads()} threads"
        runtime = self.config.runtime
        return place if runtime == EAGER else f"{place}, {runtime} {engine(runtime)}"

    def watch(self) -> Watch:
        """For the choice of one network."""
        return Watch(self.timed, self.anew)

    def timed(self, choices: Choices) -> Speed:
        """How fast the network of some choices is here: measured once."""
        return self.maker.table.timed(choices, self.place, lambda: self._measured(choices))

    def anew(self, choices: Choices) -> Speed:
        """The same measured once more, after it was chosen by the first."""
        place = f"{self.place}, {ANEW}"
        return self.maker.table.timed(choices, place, lambda: self._measured(choices))

    def told(self, made: Made) -> Speed:
        """How fast a network is, as the report has it."""
        if made.ties:
            return self._speed(made.model)
        known = self.maker.table.speed(made.choices, f"{self.place}, {ANEW}")
        return known or self.timed(made.choices)

    def _measured(self, choices: Choices) -> Speed:
        return self._speed(self.maker.assembled(choices))

    def _speed(self, made: nn.Module) -> Speed:
        subject, runtime = self.subject, self.config.runtime
        seen = (made, subject.layers, subject.example)
        if runtime == EAGER:
            return time_in_place(self.original, *seen)
        return time_elsewhere(runtime, subject.model, *seen)

    def lay_out(self, found: Outcome) -> Outcome:
        """Give a network the memory format in which it was measured to be faster."""
        format_ = format_of(layer.config.order for layer in self.subject.layers)
        if format_ is None or self.config.runtime != EAGER or not self.told(found.made).last:
            return found
        return found._replace(last=lay_last(found.made.model, self.subject.example, format_))

    def point(self, budget: float | None, found: Outcome) -> Point:
        """One budget's place on the curve."""
        report = self.report(found, ())
        return Point(
            budget=budget or 0.0,
            parameters=report.parameters.after,
            macs=report.macs.after,
            milliseconds=None if report.milliseconds is None else report.milliseconds.after,
            error=found.made.error,
            score=None if report.score is None else report.score.after,
        )

    def report(self, found: Outcome, curve: Sequence[Point]) -> Report:
        """What was done, and what came of it."""
        made = found.made
        speed = self.told(made)
        models = (self.subject.model, made.model)
        before, after = (sum(p.numel() for p in model.parameters()) for model in models)
        return summarise(
            self.subject.every,
            self.plan,
            made.became,
            self.config,
            kernel_errors=self.kernel_errors(made.became),
            outside=self.subject.outside,
            uncounted=self.subject.uncounted,
            parameters=Change(before=before, after=after),
            speed=speed,
            lagging=() if found.slow else tuple(slower(made.became, speed)),
            error=made.error,
            constant=self.constant,
            score=self.scored(made),
            curve=curve,
            warnings=self.subject.doubts,
            passes=self.runs.items / self.subject.items,
            refinement=found.gained,
            stages=found.stages,
            slower=found.slow,
            inputs=shapes(self.subject.example),
            device=self.device,
            last=found.last,
        )

    def kernel_errors(self, choices: Choices) -> dict[str, float]:
        """Those of the layers that were decomposed."""
        found, table = dict[str, float](), self.maker.table
        for layer in self.subject.layers:
            one = choices[layer.name]
            if one.joint is not None:
                found[layer.name] = one.kernel_error or 0.0
            elif one.factorization is not None:
                factors = table.layers[layer.name].factors[one.key]
                found[layer.name] = kernel_error(self.subject.module(layer), layer, one, factors)
        return found

    def scored(self, made: Made) -> Change | None:
        """The score that the report shows, of the original and of a network."""
        if self.shown is not None and self.before is not None:
            return Change(before=self.before, after=measure_score(made.model, self.shown, "score"))
        if made.score is None:
            return None
        return Change(before=self.maker.judges.final.best, after=made.score)
