"""The whole network, compressed at two budgets."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..compression import compress
from .data import load_images
from .measured import BATCH, SEED, Measured, Setting

BUDGETS = {"half of the MACs": 0.5, "a quarter": 0.25}
CALIBRATION = 256  # images without labels


def run_budgets(setting: Setting) -> Iterator[Measured | str]:
    """Measure the original, then each budget's network; what comes next is yielded as a string."""
    yield "the original"
    yield setting.original()
    images, _ = load_images("train")
    batches = images[:CALIBRATION].contiguous(memory_format=torch.channels_last).split(BATCH)
    table = None
    for name, budget in BUDGETS.items():
        yield f"compressed to {name}"
        made = compress(
            setting.model,
            budget=budget,
            example_inputs=setting.batch,
            calibration=batches,
            table=table,
            seed=SEED,
            progress=False,
        )
        table = made.table
        yield setting.measure(name, made.model, made.report.macs.after)
