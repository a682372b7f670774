from tenfold.testing import conformance


@conformance(factorization="tensor_ring")
class TestTensorRing:
    """Every law of a format, with every installed implementation."""
