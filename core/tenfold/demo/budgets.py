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
    """Measure the original and each budget's network; what comes next is yielded as a string."""
    images, _ = load_images("train")
    batches = images[:CALIBRATION].contiguous(memory_format=torch.channels_last).split(BATCH)
    table, networks = None, {}
    for name, budget in BUDGETS.items():
        yield f"compressed to {name}"
        made = compress(
            setting.model,
            budget=budget,
            example_inputs=setting.batch,
            calibration=batches,
            table=table,
            refine="off",  # it takes as long again
            seed=SEED,
            progress=False,
        )
        table = made.table
        networks[name] = (made.model, made.report.macs.after)
    yield "timed, in turn"
    yield from setting.measure(networks)
