"""A large moment of few patches has the roots and inverses of the dense one."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.algebra import few_directions, square_root
from tenfold.compression.correction.regression import regress
from tenfold.compression.correction.response import Response
from tenfold.compression.moments import Seen
from tenfold.compression.moments.norm import Norm

SIZE = 40


@pytest.fixture(autouse=True, scope="module")
def small():
    """Moments of the tests are large."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("LARGE", 32), ("MOST", 8), ("SPARE", 4)):
            patch.setattr(sys.modules[few_directions.__module__], name, value)
        yield


def moment(few, level, groups=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(groups, SIZE, few, generator=generator, dtype=torch.float64)
    return x @ x.mT + level * torch.eye(SIZE, dtype=torch.float64)


def dense_power(matrix, exponent):
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.pow(exponent)[:, None]) @ vectors.mT


@settings(deadline=None)
@given(
    st.integers(1, 8),
    st.sampled_from([0.0, 0.3, 20.0]),
    st.sampled_from([0.5, -0.5, -1.0]),
    st.integers(1, 3),
)
def test_its_powers_are_those_of_the_dense_matrix(few, level, exponent, groups):
    dense = moment(few, level, groups)
    other = torch.randn(groups, SIZE, 3, dtype=torch.float64)
    found = few_directions(dense)
    wanted = dense_power(dense + 0.1 * torch.eye(SIZE), exponent) @ other
    torch.testing.assert_close(found.power(exponent, 0.1) @ other, wanted)
    assert found.shape == dense.shape


def test_a_moment_of_many_directions_or_a_small_or_complex_one_is_none():
    assert few_directions(moment(9, 0.0)) is None
    assert few_directions(moment(100, 0.0)) is None
    assert few_directions(moment(2, 0.0)[:, :31, :31]) is None
    assert few_directions(moment(2, 0.0).to(torch.complex128)) is None
    both = torch.cat([moment(2, 0.0), moment(100, 0.0)])
    assert few_directions(both) is None


def test_its_root_is_a_root_and_its_inverse_undoes_it():
    dense, other = moment(5, 0.0), torch.randn(1, SIZE, 4, dtype=torch.float64)
    root, inverse = square_root(dense)
    scaled = dense / dense.diagonal(dim1=1, dim2=2).mean() + 1e-5 * torch.eye(SIZE)
    torch.testing.assert_close(root.mT @ (root @ other), scaled @ other)
    torch.testing.assert_close(inverse @ (root @ other), other)


def test_least_squares_are_those_of_the_dense_moment():
    dense, kernel = moment(5, 0.0), torch.randn(1, 6, SIZE, dtype=torch.float64)
    cross = torch.randn(1, 6, SIZE, dtype=torch.float64)
    zeros = torch.zeros(1, SIZE, dtype=torch.float64)
    found = regress(kernel, Response(dense, cross, zeros, zeros[:, :6], 5, 5.0), 0.1)
    pull = 0.1 * dense.diagonal(dim1=1, dim2=2).mean()
    wanted = (cross + pull * kernel) @ torch.linalg.inv(dense + pull * torch.eye(SIZE))
    torch.testing.assert_close(found, wanted)


def test_a_norm_is_measured_with_it_as_without():
    dense, gap = moment(5, 0.2), torch.randn(1, 6, SIZE, dtype=torch.float64)
    norm = Norm(Seen(whole=dense))
    found, wanted = norm.sketched(0, gap).squared(gap)[0], norm.squared(gap)[0]
    assert found == pytest.approx(wanted)


def test_directions_are_found_where_the_first_numbers_are_always_zero():
    """As of maps whose first channels are dead."""
    matrix = moment(6, 0.0)
    matrix[:, :20] = matrix[:, :, :20] = 0
    found = few_directions(matrix)
    assert found is not None
    torch.testing.assert_close(found @ torch.eye(SIZE, dtype=torch.float64)[None], matrix)


def test_a_large_moment_that_rounding_made_indefinite_has_a_higher_ridge(monkeypatch):
    monkeypatch.setattr(sys.modules[square_root.__module__], "LARGE", 32)
    monkeypatch.setattr(torch.linalg, "eigh", None)
    values = torch.rand(SIZE, dtype=torch.float64) + 0.1
    values[0] = -3e-4 * values.mean()
    basis, _ = torch.linalg.qr(moment(SIZE, 1.0)[0])
    root, inverse = square_root(((basis * values) @ basis.mT)[None])
    scaled = (basis * (values / values.mean() + 1e-3)) @ basis.mT
    torch.testing.assert_close((root.mT @ root)[0], scaled)
    torch.testing.assert_close((root @ inverse)[0], torch.eye(SIZE, dtype=torch.float64))
