"""Lower ranks from one decomposition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import FactorizedKernel, factorizations
from tenfold.compression.candidates.truncation import centre, kept, leading, ordered
from tenfold.network.network import KernelNetwork

FORMATS = ("spatial_svd", "channel_svd", "tucker")


def drawn(format_, shape, groups, seed):
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(shape, generator=generator, dtype=torch.float64)
    made = FactorizedKernel.from_tensor(kernel, rank=10**9, factorization=format_, groups=groups)
    return kernel, made.network, [factor.detach() for factor in made.factors]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.sampled_from([(8, 6), (8, 6, 3), (8, 4, 3, 2), (6, 2, 3, 3)]),
    st.sampled_from([1, 2]),
    st.integers(0, 99),
    st.data(),
)
def test_the_whole_is_the_kernel_and_a_part_loses_what_is_said(format_, shape, groups, seed, data):
    kernel, network, factors = drawn(format_, shape, groups, seed)
    middle = centre(network)
    parts = ordered(network, factors, middle)
    torch.testing.assert_close(network.to_tensor(parts), kernel)
    ranks = {b: data.draw(st.integers(1, network.sizes[b]), label=b) for b in network.bonds}
    smaller = KernelNetwork(network.factors, {**network.sizes, **ranks})
    gap = kernel - smaller.to_tensor(leading(smaller, parts))
    left = float(kept(network, parts, middle)[tuple(r - 1 for r in ranks.values())])
    assert float(gap.square().sum()) == pytest.approx(float(kernel.square().sum()) - left)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(FORMATS[:2]), st.integers(1, 12), st.integers(0, 99))
def test_of_one_bond_each_part_is_the_best(format_, rank, seed):
    kernel, network, factors = drawn(format_, (12, 5, 3, 3), 1, seed)
    middle = centre(network)
    best = FactorizedKernel.from_tensor(kernel, rank=rank, factorization=format_)
    smaller = KernelNetwork(network.factors, {**network.sizes, "r": best.rank})
    part = smaller.to_tensor(leading(smaller, ordered(network, factors, middle)))
    torch.testing.assert_close((kernel - part).norm(), (kernel - best.to_tensor()).norm().detach())


def test_a_chain_has_no_centre_and_neither_has_a_bond_of_many():
    assert centre(factorizations["tt"]().network((8, 6, 3, 3), 2)) is None
    assert centre(factorizations["cp"]().network((8, 6, 3, 3), 2)) is None
