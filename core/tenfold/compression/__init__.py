"""A whole trained network made smaller and faster by measured error and measured latency."""

from .distillation import distill
from .engine import compress
from .reporting import Compression, Report, Sensitivity
from .request import CompressionConfig, Order, read_order
from .sensitivity import survey as measure_layers
from .storage import MANIFEST, check_free, has_report, load, load_report, save, saved_layers

__all__ = [
    "MANIFEST",
    "Compression",
    "CompressionConfig",
    "Order",
    "Report",
    "Sensitivity",
    "check_free",
    "compress",
    "distill",
    "has_report",
    "load",
    "load_report",
    "measure_layers",
    "read_order",
    "save",
    "saved_layers",
]
