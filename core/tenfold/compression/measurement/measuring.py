"""Every layer measured: from its moments to a row of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

from ..candidates import Table
from ..moments import Importance, Moments, Seen, groups_within, measure
from ..request import CompressionConfig
from ..running import Progress, run_all
from ..survey import Layer, Subject
from .judges import Judges
from .latency import time_layer
from .task import Task


def measured(
    subject: Subject,
    table: Table,
    importance: Callable[[], Importance],
    moments: Moments,
    judges: Judges,
    config: CompressionConfig,
    progress: Progress,
    executor: Executor | None,
) -> int:
    """Measure the layers that the table does not have yet, each written when it is done.

    `moments` has those of the first of them once the importance is known, where that took a run.
    What it gives is how many items tasks ran through the network, here or in other processes.
    """
    missing = [layer for layer in subject.layers if layer.name not in table.layers]
    items = 0
    for part in groups_within(missing, config.memory, len(subject.pieces)):
        worth = importance()
        seen = moments.seen()
        moments.forget()
        lacking = [layer for layer in part if layer.name not in seen]
        if lacking:
            seen |= moments_of(subject, lacking, worth, config, progress)
        made = tasks(subject, part, seen, worth, judges, config, shared=executor is not None)
        done = run_all(made, executor)
        for _, found in progress.over(done, "layers", len(made), lambda one: one[0]):
            table.add(found)
            items += found.items
    if missing and config.objective == "measured":
        judges.single.replay = None
    if config.metric == "latency":
        for layer in progress.over(subject.layers, "latency", name=lambda one: one.name):
            time_layer(subject.model, layer, table.layers[layer.name], config.runtime)
    return items


def moments_of(
    subject: Subject,
    layers: Sequence[Layer],
    importance: Importance,
    config: CompressionConfig,
    progress: Progress,
) -> dict[str, Seen]:
    """The moments of some layers, by a run of their own."""
    count = len(subject.pieces)
    batches = progress.over(subject.pieces, "moments")
    return measure(subject.model, layers, batches, count, config.memory, config.seed, importance)


def tasks(
    subject: Subject,
    layers: Sequence[Layer],
    seen: Mapping[str, Seen],
    importance: Importance,
    judges: Judges,
    config: CompressionConfig,
    shared: bool,
) -> dict[str, Task]:
    """What has to be measured, with the moments that it takes."""
    judging = config.objective == "measured"
    return {
        layer.name: Task(
            subject.model,
            layer,
            config,
            seen[layer.name],
            importance.worth(layer),
            judges.single if judging else None,
            tuple(one.name for one in subject.every),
            known=layer.name in importance.channels,
            levels=judges.levels if judging else (),
            shared=shared,
        )
        for layer in layers
    }
