"""What comes of a compression."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..candidates import Table
from .report import Report


@dataclass(frozen=True)
class Compression:
    """A compressed network, what was done to it, and what was measured on the way.

    `model` is the network, `report` a `Report`. `table` given back as `compress(…, table=…)` makes
    another budget a matter of seconds. Made by `compress`.

    >>> net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    >>> x = torch.randn(4, 8, 12, 12)
    >>> made = compress(net, budget=0.5, example_inputs=x, progress=False)
    >>> isinstance(made, Compression), made.report.macs.after < made.report.macs.before
    (True, True)
    """

    model: nn.Module
    report: Report
    table: Table
