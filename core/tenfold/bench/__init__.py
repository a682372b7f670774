"""Formats and implementations side by side, on a model or a shape: measured and shown.

Imports `layer`, `model`, `compression.running` and what is below them. Used by the command
`tenfold bench`.
"""

from .measuring import Requests, Task, measure
from .results import Results, Row
from .show import draw_results, results_table

__all__ = [
    "Requests",
    "Results",
    "Row",
    "Task",
    "draw_results",
    "measure",
    "results_table",
]
