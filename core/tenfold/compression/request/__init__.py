"""What a user asks of a compression, from Python or a file, validated before anything is done.

Imports the registries. Used by every stage.
"""

from .asked import check_asked
from .config import CompressionConfig, Metric, Objective
from .order import Order, read_order
from .validation import first_fault

__all__ = [
    "CompressionConfig",
    "Metric",
    "Objective",
    "Order",
    "check_asked",
    "first_fault",
    "read_order",
]
