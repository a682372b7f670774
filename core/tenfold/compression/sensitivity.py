"""What compressing each layer would cost, before anything is decided."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

from torch import nn

from .candidates import Table
from .choice import Plan
from .groundwork import lay
from .reporting import LayerCost, Sensitivity
from .request import CompressionConfig, check_asked
from .running import Batch, Part, check_part, counted, shown, undisturbed

FRACTIONS = (0.5, 0.25, 0.1)
ALONE = {"budget": FRACTIONS[0], "correct": False, "refine": "off"}  # nothing is made
AIMS = ("budget", "budgets", "max_error", "min_score")


def survey(
    model: nn.Module,
    *,
    example_inputs: Batch,
    calibration: Iterable[Batch] | None = None,
    inputs: Part = None,
    executor: Executor | None = None,
    table: Table | str | os.PathLike[str] | None = None,
    **config_fields: Any,
) -> Sensitivity:
    """Tell for each layer what half, a quarter and a tenth of it would cost the network.

    Each layer is decomposed, and its error, alone, is that of the network's output on some of the
    calibration: what `compress` decides by, without the decision, and no network is made. The
    arguments are those of `compress`, but for how small it is to become and for scores; with the
    same `table` a compression goes on from what was measured.

    Args:
        model: the trained network, which is not changed.
        example_inputs, calibration, inputs, executor, table: as of `compress`.
        config_fields: as `metric="latency"` or `factorizations=["cp"]`: see `CompressionConfig`.

    Raises `ValueError` and `TypeError` as `compress` does. Layer-wise sensitivities: Li et al.
    2017, arXiv 1608.08710.

    >>> net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    >>> found = survey(net, example_inputs=torch.randn(4, 8, 12, 12), progress=False)
    >>> half, quarter, tenth = found.layers[1].errors
    >>> half < quarter
    True
    """
    for name in AIMS:
        if name in config_fields:
            raise ValueError(
                f"{name}={config_fields[name]!r}: a survey looks at every size; give that to "
                "compress afterwards, with the same table="
            )
    asked = CompressionConfig.parse(None, {**config_fields, **ALONE})
    check_asked(model, asked, None, None, executor)
    check_part("inputs", inputs)
    with undisturbed(), shown(asked.progress) as progress, counted() as runs:
        given = (example_inputs, calibration, inputs)
        ground = lay(model, asked, given, None, executor, table, progress, runs, spent=False)
    plan, subject = ground.plan, ground.subject
    return Sensitivity(
        metric=asked.metric,
        fractions=FRACTIONS,
        layers=tuple(_cost(plan, row) for row in range(len(plan.names))),
        kept=tuple((one.name, one.reason) for one in subject.every if one.reason is not None),
        warnings=subject.doubts,
    )


def _cost(plan: Plan, row: int) -> LayerCost:
    """What a layer's candidates within each fraction lose."""
    dense, found = plan.costs[row][0], []
    for fraction in FRACTIONS:
        within = [index for index, cost in enumerate(plan.costs[row]) if cost <= fraction * dense]
        best = min(within, key=lambda index: plan.errors[row][index], default=None)
        found.append(
            (None, None)
            if best is None
            else (plan.errors[row][best], plan.candidates[row][best].factorization)
        )
    errors, formats = zip(*found, strict=True)
    return LayerCost(plan.names[row], dense / plan.full, errors, formats)
