"""Formats and implementations side by side, on a model or a shape: measured and shown.

Imports `layer`, `model` and what is below them. Used by the command `tenfold bench`.
"""

from .measuring import Requests, Task, measure
from .results import Results, Row

__all__ = [
    "Requests",
    "Results",
    "Row",
    "Task",
    "measure",
]
