"""Decomposing a kernel: exact where it can be, of any scale, finite, contiguous and trainable."""

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import Factorization, FactorizedConv, FactorizedKernel, relative_error
from tenfold.algebra import leading_basis, truncated_svd
from tenfold.algebra.gauge import least_norm
from tenfold.solve.decomposition import with_group
from tenfold.testing import requests

FULL = 10**9  # clipped to what is exact
SHAPES = [(16, 8, 3, 3), (2, 32, 3, 3), (64, 2, 1), (3, 5), (6, 1, 5), (5, 4, 2, 3, 2)]
each_shape = pytest.mark.parametrize("shape", SHAPES)


class Ring(Factorization):
    """A tensor train whose ends are joined: the simplest loop."""

    def factors(self, order, rank):
        middle = [(f"b{axis}", f"k{axis}", f"b{axis + 1}") for axis in range(order)]
        return [("z", "in", "b0"), *middle, (f"b{order}", "out", "z")]


def normal(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype)


def of_rank(shape: tuple[int, ...], rank: int, norm: float = 1.0) -> torch.Tensor:
    """A kernel that is a CP of that rank."""
    generator = torch.Generator().manual_seed(3)
    factors = [torch.randn(size, rank, generator=generator) for size in shape]
    letters = "abcdef"[: len(shape)]
    kernel = torch.einsum(",".join(f"{a}r" for a in letters) + f"->{letters}", *factors)
    return kernel * (norm / kernel.norm())


def decomposed(kernel: torch.Tensor, seed: int = 0, **request: object) -> FactorizedKernel:
    generator = torch.Generator().manual_seed(seed)
    return FactorizedKernel.from_tensor(kernel, generator=generator, **request)


@each_shape
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_at_full_rank_any_kernel_comes_back(factorization, shape, dtype, most):
    kernel = normal(shape, dtype)
    made = decomposed(kernel, rank=FULL, factorization=factorization)
    assert made.dtype == dtype
    assert relative_error(kernel, made.to_tensor()) < most


@each_shape
@pytest.mark.parametrize("rank", [1, 2, 4, 8, 16, 64])
def test_a_rank_above_a_mode_s_size_is_never_worse_than_zeros(factorization, shape, rank):
    kernel = normal(shape)
    made = decomposed(kernel, rank=rank, factorization=factorization)
    assert relative_error(kernel, made.to_tensor()) < 1 + 1e-6


@pytest.mark.parametrize("norm", [1.0, 1e-6, 1e-15, 1e12])
@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (32, 16, 3, 3), (8, 12, 5, 3)])
def test_an_exact_cp_kernel_comes_back_whatever_its_norm(shape, norm):
    kernel = of_rank(shape, 4, norm)
    for seed in range(3):
        made = decomposed(kernel, seed, rank=4, factorization="cp")
        assert relative_error(kernel, made.to_tensor()) < 1e-3


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**-7, 2.0**50])
def test_scaling_the_kernel_scales_the_decomposition(factorization, scale):
    kernel = normal((8, 6, 3, 3))
    first, second = (
        decomposed(given, rank=0.5, factorization=factorization).to_tensor()
        for given in (kernel, kernel * scale)
    )
    assert relative_error(first * scale, second) < 1e-5


@each_shape
@pytest.mark.parametrize("rank", ["same", 0.3, 2, FULL])
def test_a_zero_kernel_gives_finite_factors_of_a_zero_kernel(factorization, shape, rank):
    made = decomposed(torch.zeros(shape), rank=rank, factorization=factorization)
    assert all(bool(factor.isfinite().all()) for factor in made.factors)
    assert not made.to_tensor().any()


@pytest.mark.parametrize("rank", ["same", 2, FULL])
@pytest.mark.parametrize("zero", [0, 1, 2])
def test_a_zero_group_stays_zero_and_leaves_the_others_right(factorization, rank, zero):
    kernel = torch.cat([of_rank((3, 2, 3, 3), 1)] * 3).double()
    kernel[3 * zero : 3 * zero + 3] = 0
    made = decomposed(kernel, rank=rank, factorization=factorization, groups=3).to_tensor()
    assert relative_error(kernel, made) < 1e-6
    assert not made[3 * zero : 3 * zero + 3].any()


def test_a_zero_kernel_can_still_be_trained_as_the_source_can(factorization):
    source = nn.Conv2d(4, 6, 3)
    nn.init.zeros_(source.weight)
    layer = FactorizedConv.from_conv(source, factorization=factorization)
    layer(torch.randn(2, 4, 5, 5)).square().sum().backward()
    assert any(bool(factor.grad.any()) for factor in layer.weight.factors)


@each_shape
@pytest.mark.parametrize("rank", [0.5, 2, FULL])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_factors_are_contiguous_so_that_safetensors_takes_them(
    factorization, shape, rank, groups
):
    kernel = torch.cat([normal(shape)] * groups)
    made = decomposed(kernel, rank=rank, factorization=factorization, groups=groups)
    assert [name for name, factor in made.named_parameters() if not factor.is_contiguous()] == []
    saved = safetensors.torch.load(safetensors.torch.save(made.state_dict()))
    assert all(torch.equal(saved[key], value) for key, value in made.state_dict().items())


@each_shape
def test_the_factors_have_equal_norms_and_no_hidden_memory(factorization, shape):
    made = decomposed(normal(shape), rank=0.5, factorization=factorization)
    norms = torch.stack([factor.detach().norm() for factor in made.factors])
    assert float(norms.max() / norms.min()) < 1 + 1e-4
    for factor in made.factors:
        assert factor.untyped_storage().nbytes() == factor.numel() * factor.element_size()


def test_the_kernel_given_is_not_changed(factorization):
    kernel = normal((8, 6, 3, 3)).requires_grad_()
    before = kernel.detach().clone()
    made = decomposed(kernel, rank=3, factorization=factorization)
    assert torch.equal(kernel, before)
    assert kernel._version == 0
    assert all(factor.grad_fn is None for factor in made.factors)


def test_decomposition_options_reach_the_format():
    kernel = normal((16, 12, 3, 3))
    few, many = (
        relative_error(
            kernel,
            decomposed(
                kernel, rank=12, decomposition_kwargs={"sweeps": sweeps, "starts": 1}
            ).to_tensor(),
        )
        for sweeps in (1, 60)
    )
    assert many < few


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", [(8, 6, 3), (8, 6, 3, 3)])
def test_factors_in_a_loop_do_not_grow_against_each_other(shape, seed):
    kernel = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    made = decomposed(kernel, seed, rank=0.9, factorization=Ring)
    rounded = [factor.detach().float().double() for factor in made.factors]
    assert relative_error(made.to_tensor(), made.network.to_tensor(rounded)) < 5e-6


@pytest.mark.parametrize("seed", range(20))
def test_a_start_is_not_shrunk_to_nothing(seed):
    kernel = torch.tensor([0.6614, 0.2669, 0.0617], dtype=torch.float64).reshape(1, 1, 1, 1, 3)
    for name in (Ring, "cp"):
        made = decomposed(kernel, seed, rank=1, factorization=name)
        assert relative_error(kernel, made.to_tensor()) < 1e-6


@settings(max_examples=60, deadline=None)
@given(asked=requests(), name=st.sampled_from(["tt", "tucker", "block_term", "cp", "ring"]))
def test_a_change_of_basis_keeps_the_kernel_and_lowers_the_norms(asked, name):
    layer = asked.layer(factorization=Ring if name == "ring" else name, dtype=torch.float64)
    network, factors = with_group(layer.weight.network), list(layer.weight.factors)
    factors = [f.detach().reshape(s) for f, s in zip(factors, network.shapes, strict=True)]
    found = least_norm(factors, network)
    assert [f.shape for f in found] == [f.shape for f in factors]
    assert relative_error(network.to_tensor(factors), network.to_tensor(found)) < 1e-10
    before, after = (sum(float(f.square().sum()) for f in some) for some in (factors, found))
    assert after <= before * (1 + 1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1.0, 1e9, 1e200])
@pytest.mark.parametrize("flat", [True, False])
def test_a_few_vectors_of_a_large_matrix_are_found_at_any_scale(scale, flat):
    matrix = normal((520, 560), torch.float64) * (1.0 if flat else 1e-6)
    matrix += 30 * normal((520, 4), torch.float64) @ normal((560, 4), torch.float64).mT
    found = leading_basis(scale * matrix, rank=4)
    left = relative_error(matrix, found @ (found.mT @ matrix))
    values = torch.linalg.svdvals(matrix)
    assert left <= 1.001 * float(values[4:].norm() / values.norm()) + 1e-12
    torch.testing.assert_close(found, leading_basis(matrix, rank=4), atol=1e-4, rtol=0)
    basis, rest = truncated_svd(scale * matrix, rank=4)
    assert torch.equal(basis, found)
    assert relative_error(found.mT @ matrix, rest / scale) < (1e-6 if flat else 1e-12)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_truncated_svd_is_its_basis_and_what_that_sees(rows, columns, seed):
    torch.manual_seed(seed)
    matrix = torch.randn(2, rows, columns, dtype=torch.float64)
    basis, rest = truncated_svd(matrix, rank=min(rows, columns))
    assert torch.equal(basis, leading_basis(matrix, rank=min(rows, columns)))
    torch.testing.assert_close(basis @ rest, matrix)
