"""The conformance kit: what any plugin runs on itself.

from tenfold.testing import conformance

@conformance(factorization="tensor_ring")
class TestTensorRing:
    pass
"""

from .conformance import conformance
from .dense import dense_convolution
from .strategies import Request, fractions, kernel_shapes, requests

__all__ = [
    "Request",
    "conformance",
    "dense_convolution",
    "fractions",
    "kernel_shapes",
    "requests",
]
