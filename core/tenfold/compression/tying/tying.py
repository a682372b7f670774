"""Which stages are tied: those whose network is nearer to the original so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

from torch import nn

from ..candidates import Table, put
from ..choice import Choices
from ..moments import Importance
from ..reporting import Stage
from ..request import CompressionConfig
from ..survey import Layer, Subject
from .fitting import fitted
from .tie import Tie, assembled


def tied(
    subject: Subject,
    table: Table,
    choices: Choices,
    importance: Importance,
    config: CompressionConfig,
    judge: Callable[[nn.Module], float],
) -> tuple[list[Tie], list[Stage]]:
    """Tie one stage after another, each if the whole network's error falls by it.

    Each within as many parameters as its layers have by `choices`.
    """
    kept: list[Tie] = []
    told: list[Stage] = []
    error = _judged(subject, table, choices, kept, judge)
    for stage in subject.alike:
        names = tuple(layer.name for layer in stage)
        tie = _within(subject, stage, choices, importance, config)
        if isinstance(tie, str):
            told.append(Stage(layers=names, error=None, apart=error, reason=tie))
            continue
        found = _judged(subject, table, choices, [*kept, tie], judge)
        why = None if found < error else "apart they are nearer to the original"
        told.append(Stage(layers=names, error=found, apart=error, reason=why))
        if found < error:
            kept.append(replace(tie, error=found))
            error = found
    return kept, told


def _within(
    subject: Subject,
    stage: Sequence[Layer],
    choices: Choices,
    importance: Importance,
    config: CompressionConfig,
) -> Tie | str:
    """The layers of a stage tied, or why they are not."""
    layers = [layer for layer in stage if layer.reason is None]
    spendable = _kernels(layers, choices)
    if len(layers) < 2:
        return "fewer than two of them can be replaced"
    if spendable >= sum(prod(layer.config.shape) for layer in layers):
        return "nothing was to be saved of them"
    tie = fitted(subject.model, layers, subject.pieces, importance, spendable, config)
    return tie or "no format ties them within as many parameters"


def _kernels(layers: Sequence[Layer], choices: Choices) -> int:
    """The parameters of the layers' kernels, by some choices."""
    biases = sum(layer.config.out_channels for layer in layers if layer.config.bias)
    return sum(choices[layer.name].parameters for layer in layers) - biases


def _judged(
    subject: Subject,
    table: Table,
    choices: Choices,
    ties: Sequence[Tie],
    judge: Callable[[nn.Module], float],
) -> float:
    originals = {layer.name: subject.module(layer) for layer in subject.layers}
    try:
        return judge(assembled(subject.model, subject.layers, table, choices, ties))
    finally:
        for layer in subject.layers:
            put(subject.model, layer, originals[layer.name])
