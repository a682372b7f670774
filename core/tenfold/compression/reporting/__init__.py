"""What was done, as data; and the data as tables, charts and a page.

Imports `choice` and what is before it. Used by `tying`, the engine and `storage`.
"""

from .findings import Change, LayerReport, Point, RefinedBlock, Refinement, Slower, Stage
from .report import Report
from .result import Compression
from .saying import say
from .sensitivity import LayerCost, Sensitivity
from .summary import summarise

__all__ = [
    "Change",
    "Compression",
    "LayerCost",
    "LayerReport",
    "Point",
    "RefinedBlock",
    "Refinement",
    "Report",
    "Sensitivity",
    "Slower",
    "Stage",
    "say",
    "summarise",
]
