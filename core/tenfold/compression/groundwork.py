"""What a compression and a survey have in common: a network, its layers measured, a plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache, partial

from torch import nn

from .candidates import Table, fingerprint, reject
from .choice import Plan
from .correction import Answers, looked
from .measurement import EAGER, Evaluate, Judges, measured, time_networks
from .moments import Importance, Moments, groups_within, weighed
from .refinement import Kept
from .request import CompressionConfig
from .running import Batch, Part, Progress, Runs, prepared
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
) -> Groundwork:
    """Survey a network and measure its layers, but those that the table has already.

    Raises `ValueError` or `TypeError`, naming the argument, before anything is measured.
    """
    subject = surveyed(model, config, given, evaluate is not None)
    if config.runtime != EAGER:
        prepared(config.runtime, subject.model, subject.example)
    reject(subject.model, subject.layers, subject.example, config)
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
    kept = staying(subject.every, subject.outside)
    plan = Plan(subject.layers, known, config, _fixed(subject, known, config), kept)
    return Groundwork(subject, known, judges, importance, plan, answers, ends)


def _fixed(subject: Subject, table: Table, config: CompressionConfig) -> float:
    """What no choice changes: of parameters and MACs what other layers, and no layers, have."""
    if config.metric == "parameters":
        own = sum(layer.parameters for layer in subject.layers)
        return float(sum(p.numel() for p in subject.model.parameters()) - own)
    if config.metric == "macs":
        kept = sum(layer.macs for layer in subject.every if layer.reason is not None)
        return float(kept + subject.outside)
    (whole,) = time_networks([subject.model], subject.example, config.runtime)
    tables = (table.layers[layer.name] for layer in subject.layers)
    return max(0.0, whole - sum(one.candidates[0].milliseconds or 0.0 for one in tables))
