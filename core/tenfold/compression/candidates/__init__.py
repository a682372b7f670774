"""What a layer could become: fits in every format and rank, what they cost, and the table of them.

Imports `survey` and `moments`. Used by `measurement` and `choice`, which build from it.
"""

from .building import build, evened, kernel_error, put, rounded
from .candidate import Candidate, candidates, dense, work
from .fitting import Fitted, alignment, fits
from .meter import Meter
from .rounding import roundings
from .speed import Speed
from .standing import reject
from .table import LayerTable, Table, fingerprint
from .turned_sum import turned_for

__all__ = [
    "Candidate",
    "Fitted",
    "LayerTable",
    "Meter",
    "Speed",
    "Table",
    "alignment",
    "build",
    "candidates",
    "dense",
    "evened",
    "fingerprint",
    "fits",
    "kernel_error",
    "put",
    "reject",
    "rounded",
    "roundings",
    "turned_for",
    "work",
]
