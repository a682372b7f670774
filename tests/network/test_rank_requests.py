"""Ranks by the kernel: errors, energies, multiples, noise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import (
    Energy,
    Error,
    FactorizedConv,
    FactorizedKernel,
    Multiple,
    factorizations,
    relative_error,
)

FORMATS = ["cp", "tucker", "tt", "spatial_svd", "channel_svd", "depthwise_separable", "block_term"]


def planted(out, channels, rank, noise, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(out, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, channels * 9, generator=generator, dtype=torch.float64)
    kernel = left @ right / rank**0.5
    kernel += noise * torch.randn(kernel.shape, generator=generator, dtype=torch.float64)
    return kernel.reshape(out, channels, 3, 3)


@pytest.mark.parametrize("factorization", FORMATS)
@settings(max_examples=5, deadline=None)
@given(most=st.floats(0.05, 0.9), seed=st.integers(0, 99))
def test_the_kernel_is_within_the_error_asked_for(factorization, most, seed):
    kernel = planted(8, 6, 3, 0.2, seed)
    made = FactorizedKernel.from_tensor(kernel, rank=Error(most), factorization=factorization)
    assert relative_error(kernel, made.to_tensor()) <= most


@pytest.mark.parametrize("factorization", ["channel_svd", "spatial_svd"])
def test_a_matrix_format_meets_an_error_with_the_least_rank(factorization):
    kernel = planted(12, 8, 4, 0.3)
    made = FactorizedKernel.from_tensor(kernel, rank=Error(0.3), factorization=factorization)
    less = FactorizedKernel.from_tensor(kernel, rank=made.rank - 1, factorization=factorization)
    assert relative_error(kernel, less.to_tensor()) > 0.3


@pytest.mark.parametrize("factorization", ["tucker", "tt"])
def test_no_bond_of_an_svd_format_can_be_lowered_further(factorization):
    kernel = planted(12, 8, 4, 0.3)
    made = FactorizedKernel.from_tensor(kernel, rank=Error(0.3), factorization=factorization)
    for place in range(len(made.rank)):
        rank = tuple(r - (i == place) for i, r in enumerate(made.rank))
        if min(rank) > 0:
            less = FactorizedKernel.from_tensor(kernel, rank=rank, factorization=factorization)
            assert relative_error(kernel, less.to_tensor()) > 0.3 or less.numel() >= made.numel()


def test_an_energy_is_an_error():
    kernel = planted(12, 8, 4, 0.3)
    made = FactorizedKernel.from_tensor(kernel, rank=Energy(0.91), factorization="tucker")
    same = FactorizedKernel.from_tensor(kernel, rank=Error(0.3), factorization="tucker")
    assert made.rank == same.rank
    kept = 1 - relative_error(kernel, made.to_tensor()) ** 2
    assert kept >= 0.91 - 1e-12


@pytest.mark.parametrize("request_", [Error(0.5), Energy(0.5), "vbmf"])
def test_what_looks_at_a_kernel_is_refused_without_one(request_):
    with pytest.raises(ValueError, match="use from_conv or from_tensor"):
        FactorizedConv(8, 8, (3, 3), rank=request_, factorization="tucker")


@pytest.mark.parametrize("bad", [lambda: Error(-0.1), lambda: Error(1.0), lambda: Energy(0.0)])
def test_an_impossible_error_is_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        bad()


def test_an_error_below_the_dtype_is_refused():
    with pytest.raises(ValueError, match=r"cannot be reached in torch.float32"):
        FactorizedKernel.from_tensor(torch.randn(6, 6, 3, 3), rank=Error(1e-12))


@pytest.mark.parametrize("factorization", FORMATS)
@settings(max_examples=10, deadline=None)
@given(fraction=st.floats(0.1, 1.0), base=st.sampled_from([4, 8, 16]))
def test_a_multiple_keeps_the_budget(factorization, fraction, base):
    shape = (64, 48, 3, 3)
    network = factorizations[factorization]().network(shape, Multiple(base, of=fraction))
    smallest = all(network.sizes[bond] == 1 for bond in network.bonds)
    assert network.numel <= fraction * (64 * 48 * 9) * (1 + 1e-12) or smallest  # but for rounding
    most = factorizations[factorization]().network(shape, 10**9)
    for bond in network.bonds:
        size = network.sizes[bond]
        assert size % base == 0 or size < base or size == most.sizes[bond]


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_vbmf_recovers_a_planted_rank(rank):
    made = FactorizedKernel.from_tensor(
        planted(32, 16, rank, 0.1), rank="vbmf", factorization="channel_svd"
    )
    assert made.rank == rank


def test_vbmf_gives_one_on_pure_noise_and_on_zeros():
    for kernel in (planted(32, 16, 1, 0.0) * 0, planted(32, 16, 1, 0.0) * 0 + noise(32, 16)):
        made = FactorizedKernel.from_tensor(kernel, rank="vbmf", factorization="tucker")
        assert made.rank == (1, 1)


def noise(out, channels):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(out, channels, 3, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("factorization", FORMATS)
def test_vbmf_answers_for_every_format_and_for_groups(factorization):
    conv = torch.nn.Conv2d(8, 12, 3, groups=2)
    layer = FactorizedConv.from_conv(conv, rank="vbmf", factorization=factorization)
    assert layer.weight.numel() > 0


@pytest.mark.parametrize("factorization", ["tucker", "tt"])
def test_a_budget_spent_by_the_kernel_is_not_worse_than_one_spent_blindly(factorization):
    kernel = planted(24, 12, 5, 0.2)
    plugin = factorizations[factorization]()
    blind = plugin.network((24, 12, 3, 3), 0.4)
    rank = tuple(blind.sizes[bond] for bond in blind.bonds)
    errors = [
        relative_error(
            kernel,
            FactorizedKernel.from_tensor(kernel, rank=r, factorization=factorization).to_tensor(),
        )
        for r in (0.4, rank)
    ]
    assert errors[0] <= errors[1] + 1e-9
