"""A whole trained network made smaller and faster by measured error and measured latency."""

from .engine import Compression, compress
from .request import CompressionConfig

__all__ = ["Compression", "CompressionConfig", "compress"]
