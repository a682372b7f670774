"""Every layer measured: from its moments to a row of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from ..candidates import Table
from ..moments import Importance, groups_within, measure
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
    judges: Judges,
    config: CompressionConfig,
    progress: Progress,
    executor: Executor | None,
) -> int:
    """Measure the layers that the table does not have yet, each written when it is done.

    What it gives is how many items tasks ran through the network, here or in other processes.
    """
    missing = [layer for layer in subject.layers if layer.name not in table.layers]
    items = 0
    for part in groups_within(missing, config.memory, len(subject.fitted)):
        made = tasks(
            subject, part, importance(), judges, config, progress, shared=executor is not None
        )
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


def tasks(
    subject: Subject,
    layers: Sequence[Layer],
    importance: Importance,
    judges: Judges,
    config: CompressionConfig,
    progress: Progress,
    shared: bool,
) -> dict[str, Task]:
    """What has to be measured, with the moments that it takes."""
    batches = progress.over(subject.fitted, "moments")
    seen = measure(
        subject.model, layers, batches, len(subject.fitted), config.memory, config.seed, importance
    )
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
