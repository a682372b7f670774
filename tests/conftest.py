"""What most tests run over: the built-in formats, and every pair that is not refused."""

import pytest

FORMATS = ("cp", "tucker", "tt")
PAIRS = [(name, way) for name in FORMATS for way in ("reconstructed", "factorized")]
PAIRS.append(("cp", "mobilenet"))


@pytest.fixture(params=FORMATS, scope="session")
def factorization(request: pytest.FixtureRequest) -> str:
    """The name of a format."""
    return request.param


@pytest.fixture(params=PAIRS, ids="-".join, scope="session")
def pair(request: pytest.FixtureRequest) -> dict[str, str]:
    """A format and an implementation, as the keywords that `FactorizedConv` takes."""
    return dict(zip(("factorization", "implementation"), request.param, strict=True))
