"""What a compression and a survey have in common: a network, its layers measured, a plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache, partial

from torch import nn

from .candidates import Table, fingerprint, reject
from .choice import Plan, unreachable
from .correction import Answers, looked
from .measurement import EAGER, Evaluate, Judges, measured, time_networks
from .moments import Importance, Moments, groups_within, weighed
from .refinement import Kept
from .request import CompressionConfig
from .running import Batch, Part, Progress, Runs, prepared, turn_columns
from .survey import Subject, staying, surveyed


@dataclass(frozen=True)
class Groundwork:
    """All that is known before anything is chosen."""

    subject: Subject
    table: Table
    judges: Judges
    importance: Callable[[], Importance]
    plan: Plan
    answers: Answers
    ends: Kept


def lay(
    model: nn.Module,
    config: CompressionConfig,
    given: tuple[Batch, Iterable[Batch] | None, Part],  # as `surveyed` takes them
    evaluate: Evaluate | None,
    executor: Executor | None,
    table: Table | str | os.PathLike[str] | None,
    progress: Progress,
    runs: Runs,
    *,
    spent: bool = True,
) -> Groundwork:
    """Survey a network and measure its layers, but those that the table has already.

    `spent` is whether a budget is to be kept. Raises `ValueError` or `TypeError`, naming the
    argument, before anything is measured.
    """
    subject = surveyed(model, config, given, evaluate is not None)
    if any(layer.has_columns for layer in subject.every):
        turn_columns()
    if config.runtime != EAGER:
        prepared(config.runtime, subject.model, subject.example)
    reject(subject.model, subject.layers, subject.example, config)
    if spent:
        _check_budgets(subject, config)
    judges = Judges(subject, config, evaluate)
    judges.check_score()
    key = fingerprint(subject.model, subject.batches, subject.example, config, evaluate)
    known = Table.open(table, key)
    count, memory = len(subject.pieces), config.memory
    missing = [layer for layer in subject.layers if layer.name not in known.layers]
    moments = Moments(next(groups_within(missing, memory, count), []), count, memory)
    answers = looked(subject.layers if config.correct else [], memory, count)
    ends = Kept(subject, memory)
    looks = [moments, answers, *([ends] if config.refine == "blocks" else [])]
    importance = cache(partial(weighed, subject, config, progress, looks))
    elsewhere = measured(subject, known, importance, moments, judges, config, progress, executor)
    runs.items += elsewhere
    kept = staying(subject.model, subject.every, subject.outside)
    plan = Plan(subject.layers, known, config, _fixed(subject, known, config), kept)
    return Groundwork(subject, known, judges, importance, plan, answers, ends)


def _check_budgets(subject: Subject, config: CompressionConfig) -> None:
    """Refuse, with a `ValueError`, a budget that what stays exceeds alone."""
    budgets = [one for one in (*config.budgets, config.budget) if one is not None]
    if config.metric == "latency" or not budgets:
        return
    fixed = _counted(subject, config.metric)
    own = sum(getattr(layer, config.metric) for layer in subject.layers)
    share = fixed / max(1, fixed + own)
    if min(budgets) < share:
        more = ", or include more layers" if config.include or config.exclude else ""
        least = f"{share:.4g} of them stay whatever is chosen; ask for more than that{more}"
        kept = (
            staying(subject.model, subject.every, subject.outside)
            if config.metric == "macs"
            else ""
        )
        raise ValueError(unreachable(config, min(budgets), least, kept))


def _counted(subject: Subject, metric: str) -> float:
    """Of parameters and MACs what other layers, and no layers, have."""
    if metric == "parameters":
        own = sum(layer.parameters for layer in subject.layers)
        return float(sum(p.numel() for p in subject.model.parameters()) - own)
    kept = sum(layer.macs for layer in subject.every if layer.reason is not None)
    return float(kept + subject.outside)


def _fixed(subject: Subject, table: Table, config: CompressionConfig) -> float:
    """What no choice changes."""
    if config.metric != "latency":
        return _counted(subject, config.metric)
    (whole,) = time_networks([subject.model], subject.example, config.runtime)
    tables = (table.layers[layer.name] for layer in subject.layers)
    return max(0.0, whole - sum(one.candidates[0].milliseconds or 0.0 for one in tables))
