"""What comes of a compression."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..candidates import Table
from .report import Report


@dataclass(frozen=True, repr=False)
class Compression:
    """A compressed network, what was done to it, and what was measured on the way.

    `model` is the network, `report` a `Report`. `table` given back as `compress(…, table=…)` makes
    another budget a matter of seconds. `print` shows the report's table, and a notebook its page.
    Made by `compress`.

    >>> net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    >>> x = torch.randn(4, 8, 12, 12)
    >>> made = compress(net, budget=0.5, example_inputs=x, progress=False)
    >>> isinstance(made, Compression), made.report.macs.after < made.report.macs.before
    (True, True)
    """

    model: nn.Module
    report: Report
    table: Table

    def __str__(self) -> str:
        return str(self.report)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {type(self.model).__name__}: {self.report!r}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()
