"""A whole trained network made smaller and faster by measured error and measured latency."""

from .distillation import distill
from .engine import Compression, compress
from .files import load, save
from .request import CompressionConfig

__all__ = ["Compression", "CompressionConfig", "compress", "distill", "load", "save"]
