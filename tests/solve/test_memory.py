"""The memory that a decomposition takes beside the kernel is bounded."""

import subprocess
import sys

import pytest

MEASURE = """
import resource, torch
from tenfold import decompose
kernel = torch.randn({shape})
for name in {names}:
    decompose(torch.randn(4, 4, 3, 3), factorization=name)  # what importing and starting takes
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in {names}:
    assert decompose(kernel, factorization=name, rank={rank!r}, **{options!r}).error < 1
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
GIGABYTE = 1024.0  # in MiB
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="resource is POSIX")


def added(**request):
    """The peak memory in MiB that decompositions add, in a fresh process."""
    code = MEASURE.format(**request)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_cp_of_a_large_kernel_at_same_takes_less_than_a_gigabyte():
    # the peer's Khatri-Rao matrix alone is 7.2 GB here
    options = {"sweeps": 1, "starts": 1}
    assert added(shape=(512, 512, 3, 3), names=["cp"], rank="same", options=options) < GIGABYTE


@pytest.mark.parametrize("shape", [(3, 1_000_000), (1_000_000, 3), (3, 100_000, 10)])
def test_a_wide_unfolding_is_never_squared(shape):
    names = ["cp", "tucker", "tt", "spatial_svd", "channel_svd", "block_term"]
    assert added(shape=shape, names=names, rank=2, options={}) < GIGABYTE  # its square: 10^12
