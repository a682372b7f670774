"""The conformance kit: what any plugin runs on itself.

from tenfold.testing import conformance

@conformance(factorization="tensor_ring")
class TestTensorRing:
    pass
"""

from .conformance import LawError, conformance
from .dense import dense_convolution
from .strategies import Request, fractions, kernel_shapes, kernels, requests

__all__ = [
    "LawError",
    "Request",
    "conformance",
    "dense_convolution",
    "fractions",
    "kernel_shapes",
    "kernels",
    "requests",
]
