"""`M Mᴴ` in blocks, at once or added up, is that product."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.algebra import add_square, mirrored, symmetric, symmetric_product


@pytest.fixture(autouse=True, scope="module")
def blocks():
    """Matrices of the tests have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symmetric, "ROWS", 3)
        yield


@settings(deadline=None)
@given(
    rows=st.integers(1, 11),
    columns=st.integers(1, 5),
    groups=st.sampled_from([(), (1,), (3,)]),
    dtype=st.sampled_from([torch.float64, torch.complex128]),
    seed=st.integers(0, 99),
)
def test_products_are_those_of_the_whole_matrix(rows, columns, groups, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, *groups, rows, columns, dtype=dtype, generator=generator)
    torch.testing.assert_close(symmetric_product(first), first @ first.mH)
    total = torch.zeros(*groups, rows, rows, dtype=dtype)
    add_square(total, first)
    add_square(total, second)
    torch.testing.assert_close(mirrored(total), first @ first.mH + second @ second.mH)
