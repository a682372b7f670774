"""What a decomposition achieved: errors, sweeps, and how sensitive the kernel is to its factors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import (
    Error,
    FactorizedKernel,
    Moment,
    decompose,
    factorizations,
    relative_error,
)
from tenfold.demo.data import load_cnn
from tenfold.layer.achieved import sensitivity
from tenfold.testing import kernel_shapes

FORMATS = [name for name in factorizations.names() if name != "tensor_ring"]


def normal(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("name", FORMATS)
def test_it_returns_the_kernel_of_from_tensor_and_its_error(name):
    kernel = normal((8, 6, 3, 3))
    found = decompose(kernel, rank=0.4, factorization=name, generator=seeded())
    same = FactorizedKernel.from_tensor(kernel, rank=0.4, factorization=name, generator=seeded())
    assert torch.equal(found.kernel.to_tensor(), same.to_tensor())
    assert found.rank == same.rank
    assert found.error == relative_error(kernel, same.to_tensor())
    assert found.output_error is None


def test_with_a_moment_it_says_the_output_s_error_on_what_was_seen():
    conv = nn.Conv2d(6, 8, 3, bias=False).double()
    moment = Moment(conv)
    moment.update(normal((4, 6, 9, 9)))
    found = decompose(conv.weight, rank=0.4, factorization="tucker", moment=moment)
    assert found.output_error == moment.output_error(conv.weight, found.kernel.to_tensor())
    assert 0 < found.output_error < 1


@pytest.mark.parametrize(
    ("request_", "sweeps"),
    [
        ({"factorization": "spatial_svd"}, 0),
        ({"factorization": "tucker", "sweeps": 5, "tolerance": 0.0}, 5),
        ({"factorization": "cp", "sweeps": 20, "starts": 1, "tolerance": 0.0}, 20),
        ({"factorization": "cp", "sweeps": 20, "starts": 3, "tolerance": 0.0}, 24),
        ({"factorization": "cp", "sweeps": 5, "starts": 1, "corrections": 4, "tolerance": 0.0}, 9),
        ({"factorization": "tt", "sweeps": 3, "tolerance": 0.0}, 3),
    ],
)
def test_it_counts_the_sweeps(request_, sweeps):
    assert decompose(normal((8, 6, 3, 3)), rank=0.3, **request_).sweeps == sweeps


def test_sweeps_after_tt_svd_lower_its_error():
    kernel = normal((8, 6, 3, 3))
    plain, swept = (
        decompose(kernel, rank=0.4, factorization="tt", sweeps=sweeps) for sweeps in (0, 20)
    )
    assert swept.rank == plain.rank
    assert swept.error < plain.error


@settings(max_examples=40, deadline=None)
@given(
    shape=kernel_shapes((0, 1, 2), largest=4),
    name=st.sampled_from(FORMATS),
    groups=st.integers(1, 2),
)
def test_the_sensitivity_is_that_of_the_derivatives(shape, name, groups):
    shape = (shape[0] * groups, *shape[1:])
    made = FactorizedKernel.new(
        shape, rank=2, factorization=name, groups=groups, dtype=torch.float64
    )
    factors = tuple(factor.detach() for factor in made.factors)
    whole = made.network.to_tensor(factors)
    jacobians = torch.autograd.functional.jacobian(
        lambda *given: made.network.to_tensor(given), factors
    )
    expected = sum(
        float(jacobian.square().sum() * factor.square().mean())
        for jacobian, factor in zip(jacobians, factors, strict=True)
    ) / float(whole.square().sum())
    assert sensitivity(made.network, factors) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["conv1", "conv2"])
def test_cp_of_a_trained_kernel_has_no_terms_that_cancel_each_other(name):
    kernel = load_cnn().get_submodule(name).weight
    found = decompose(kernel, rank=0.25, generator=seeded())
    assert found.error < 0.46
    assert found.sensitivity < 300  # 900 and 590 without the ridge


def test_cp_of_a_large_fresh_kernel_does_not_stop_early():
    torch.manual_seed(0)
    found = decompose(nn.Conv2d(256, 256, 3).weight, rank=0.25, generator=seeded())
    assert found.error < 0.75


@pytest.mark.parametrize("name", ["conv1", "conv2"])
def test_correction_lowers_the_sensitivity_at_no_more_error(name):
    kernel = load_cnn().get_submodule(name).weight
    plain, corrected = (
        decompose(kernel, rank=0.25, corrections=corrections, sweeps=20, generator=seeded())
        for corrections in (0, 10)
    )
    assert corrected.error <= plain.error * (1 + 1e-6)
    assert corrected.sensitivity < 0.8 * plain.sensitivity


def test_an_error_asked_for_is_the_error_achieved():
    found = decompose(normal((8, 6, 3, 3)), rank=Error(0.3), factorization="spatial_svd")
    assert 0.2 < found.error <= 0.3


def test_an_option_that_the_format_does_not_take_is_refused():
    with pytest.raises(ValueError, match="'banana'"):
        decompose(normal((4, 3, 3)), rank=2, banana=1)


def test_it_prints_what_was_achieved_in_a_line():
    found = decompose(normal((8, 6, 3, 3)), rank=(4, 3), factorization="tucker", sweeps=0)
    said = repr(found)
    assert said.startswith("<Decomposition of (8, 6, 3, 3): tucker, rank (4, 3), 158 of 432 param")
    assert f"error {found.error:.4g}, sensitivity {found.sensitivity:.3g}, 0 sweeps>" in said
    assert "\n" not in said
