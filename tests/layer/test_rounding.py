"""Rounding: a smaller layer of the same format, near the one it is made from."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import Energy, Error, FactorizedConv, FactorizedKernel, factorizations, relative_error
from tenfold.network import KernelNetwork

FORMATS = [*factorizations.names(), "tucker+depthwise_separable", "tt_matrix+tucker"]
TREES = ["tt", "tucker", "spatial_svd", "channel_svd", "tt_matrix", "kronecker"]


def kernel_of(factorization, rank, groups=1, dtype=torch.float64, shape=(8, 6, 3, 2)):
    generator = torch.Generator().manual_seed(0)
    return FactorizedKernel.new(
        shape,
        rank=rank,
        factorization=factorization,
        groups=groups,
        dtype=dtype,
        generator=generator,
    )


@pytest.mark.parametrize("factorization", FORMATS)
@pytest.mark.parametrize("groups", [1, 2])
def test_at_its_own_ranks_the_kernel_stays(factorization, groups):
    kernel = kernel_of(factorization, 4, groups)
    same = kernel.round(10**6)
    assert same.rank == kernel.rank
    assert relative_error(kernel.to_tensor(), same.to_tensor()) < 1e-7


@pytest.mark.parametrize("factorization", FORMATS)
def test_a_kernel_of_less_rank_than_its_bonds_loses_nothing(factorization):
    small = kernel_of(factorization, 2)
    whole = small.to_tensor().detach()
    loose = FactorizedKernel.from_tensor(whole, rank=4, factorization=factorization)
    if relative_error(whole, loose.to_tensor()) > 1e-6:
        pytest.skip("its own decomposition does not find it")
    found = loose.round(small.rank)
    assert found.rank == small.rank
    assert relative_error(whole, found.to_tensor()) < (1e-6 if factorization in TREES else 0.7)


@pytest.mark.parametrize("factorization", TREES)
@settings(max_examples=8, deadline=None)
@given(rank=st.integers(1, 5), groups=st.sampled_from([1, 2]), seed=st.integers(0, 9))
def test_a_tree_is_as_near_as_its_kernel_decomposed_anew(factorization, rank, groups, seed):
    kernel = kernel_of(factorization, 5, groups)
    kernel.reset_parameters(generator=torch.Generator().manual_seed(seed))
    found = kernel.round(rank)
    whole = kernel.to_tensor().detach()
    anew = FactorizedKernel.from_tensor(
        whole, rank=found.rank, factorization=factorization, groups=groups
    )
    mine, theirs = (relative_error(whole, one.to_tensor()) for one in (found, anew))
    assert mine <= 1.15 * theirs + 1e-6


@pytest.mark.parametrize("factorization", ["cp", "block_term", "hadamard"])
def test_a_fit_through_gram_matrices_is_about_as_near(factorization):
    torch.manual_seed(0)  # of the decomposition's starts
    kernel = kernel_of(factorization, 6)
    found = kernel.round(3)
    whole = kernel.to_tensor().detach()
    anew = FactorizedKernel.from_tensor(whole, rank=found.rank, factorization=factorization)
    mine, theirs = (relative_error(whole, one.to_tensor()) for one in (found, anew))
    assert mine <= 1.2 * theirs


@pytest.mark.parametrize("factorization", ["cp", "tt", "tucker"])
def test_no_tensor_as_large_as_the_kernel_is_made(factorization, monkeypatch):
    kernel = kernel_of(factorization, 3, shape=(40, 30, 3, 3))
    made = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            made.extend(one.numel() for one in (found,) if isinstance(one, torch.Tensor))
            return found

    with Watch():
        kernel.round(2)
    assert max(made) < 40 * 30


@pytest.mark.parametrize("factorization", factorizations.names())
def test_an_error_is_kept(factorization):
    kernel = kernel_of(factorization, 4)
    found = kernel.round(Error(0.6))
    assert relative_error(kernel.to_tensor(), found.to_tensor()) <= 0.6
    assert found.numel() <= kernel.numel()


def test_an_energy_is_kept():
    kernel = kernel_of("tt", 5)
    error = relative_error(kernel.to_tensor(), kernel.round(Energy(0.7)).to_tensor())
    assert 0 < error**2 <= 0.3


@pytest.mark.parametrize("factorization", FORMATS)
def test_a_budget_is_kept_where_the_format_can(factorization):
    kernel = kernel_of(factorization, 5, shape=(16, 12, 3, 3))
    found = kernel.round(0.25)
    least = kernel.round(1).numel()
    assert found.numel() <= max(least, 0.25 * 16 * 12 * 9)


def test_all_modes_of_tucker_stay():
    kernel = kernel_of("tucker", (5, 4, 2, 2))
    assert kernel.round(2).rank == (2, 2, 2, 2)
    assert len(kernel.round(0.3).rank) == 4


@pytest.mark.parametrize(
    "factorization",
    [
        "tucker+depthwise_separable",
        "tucker+cp",
        "cp+tt",
        "tt_matrix+tucker",  # whose channels are split in other ways, as those below
        "channel_svd+cp_matrix",
        "kronecker+cp",
    ],
)
def test_the_terms_of_a_sum_are_rounded_together(factorization):
    """Nearer than each by itself, which leaves what one could give to another."""
    torch.manual_seed(0)
    kernel = FactorizedKernel.from_tensor(
        torch.randn(8, 8, 3, 3, dtype=torch.float64), rank=0.8, factorization=factorization
    )
    ranks = tuple(max(1, 2 * one // 3) for one in kernel.rank)
    mine = kernel.round(ranks)
    terms = factorization.split("+")
    apart, at = torch.zeros(8, 8, 3, 3, dtype=torch.float64), 0
    for format_, term, part in zip(
        terms, kernel.network.terms, kernel.network.parts(tuple(kernel.factors)), strict=True
    ):
        alone = FactorizedKernel(term, part, factorizations.choose(format_))
        apart = apart + alone.round(ranks[at : at + len(term.bonds)]).to_tensor().detach()
        at += len(term.bonds)
    whole = kernel.to_tensor().detach()
    near, far = (relative_error(whole, one) for one in (mine.to_tensor().detach(), apart))
    assert near < 0.999 * far


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_the_dtype_stays(dtype):
    found = kernel_of("tt", 4, dtype=dtype).round(2)
    assert found.dtype == dtype


def test_a_layer_keeps_all_but_its_size():
    layer = FactorizedConv(
        6, 8, 3, stride=2, padding=1, padding_mode="circular", order=2, rank=5, factorization="tt"
    ).eval()
    layer.requires_grad_(False)
    found = layer.round(2)
    assert found.rank == (2, 2, 2)
    assert layer.rank == (5, 5, 5)
    assert not found.training
    assert not any(p.requires_grad for p in found.parameters())
    assert found.config == layer.config
    x = torch.randn(2, 6, 9, 9)
    assert found(x).shape == layer(x).shape
    assert torch.allclose(found(x), found.to_conv()(x), atol=1e-5)
    assert torch.equal(found.bias, layer.bias)
    assert found.bias is not layer.bias
    fresh = FactorizedConv(
        6, 8, 3, stride=2, padding=1, order=2, rank=found.rank, factorization="tt"
    )
    fresh.load_state_dict(found.state_dict())


def test_what_cannot_be_rounded_is_refused():
    with pytest.raises(ValueError, match="meta"):
        FactorizedKernel.new((8, 6, 3), rank=2, device="meta").round(1)
    with pytest.raises(ValueError, match="takes 3"):
        kernel_of("tt", 3).round((1, 2))
    with pytest.raises(ValueError, match="sum of formats"):
        kernel_of("tucker+depthwise_separable", 2).round(Error(0.1))
    with pytest.raises(ValueError, match="at least 1"):
        kernel_of("tt", 3).round(0)


def test_the_structure_is_the_format_s_own():
    assert isinstance(kernel_of("cp", 4).round(2).network, KernelNetwork)
