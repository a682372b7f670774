"""An open mode in several factors: the elementwise product of two kernels."""

import pytest
import torch
from torch import nn

from tenfold import (
    Factorization,
    FactorizedConv,
    FactorizedKernel,
    Moment,
    compress,
    relative_error,
)


class Twice(Factorization):
    """Its space in two factors of different kinds, which no convolution can apply apart."""

    def factors(self, order, rank):
        return [("in", "k0", "r"), ("out", "r"), ("k0", "s"), ("in", "s")]


def test_the_kernel_is_the_product_of_two():
    made = FactorizedKernel.new((8, 6, 3, 3), rank=(2, 3), factorization="hadamard")
    first, second, third, fourth = made.factors
    halves = (
        torch.einsum("ihwr,ro->oihw", first, second),
        torch.einsum("ihws,so->oihw", third, fourth),
    )
    assert relative_error(halves[0] * halves[1], made.to_tensor()) < 1e-6


@pytest.mark.parametrize("implementation", ["factorized", "auto"])
def test_factors_of_equal_kinds_run_as_one_convolution_each(implementation):
    layer = FactorizedConv(
        8, 6, (3, 3), rank=(2, 3), factorization="hadamard", implementation=implementation
    )
    assert [tuple(conv.weight.shape) for conv in layer.to_sequential()] == [
        (6, 8, 3, 3),
        (6, 6, 1, 1),
    ]


@pytest.mark.parametrize("groups", [1, 2])
def test_a_moment_lowers_the_error_of_the_output(groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, 3, groups=groups)
    moment = Moment(conv)
    moment.update(torch.randn(40, 8, 8, 8).cumsum(1))
    errors = []
    for given in (moment, None):
        made = FactorizedConv.from_conv(conv, rank=0.5, factorization="hadamard", moment=given)
        errors.append(moment.output_error(conv.weight, made.weight.to_tensor()))
    assert errors[0] < 0.9 * errors[1]


def test_compress_takes_it():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3))
    batch = torch.randn(16, 3, 8, 8)
    made = compress(
        net,
        example_inputs=batch[:2],
        calibration=[batch],
        budget=0.7,
        factorizations=["hadamard"],
        progress=False,
        never_slower=False,
    )
    assert any(isinstance(module, FactorizedConv) for module in made.model.modules())


def test_auto_has_the_dense_kernel_where_no_factor_runs_alone():
    layer = FactorizedConv(6, 6, (3,), rank=2, factorization=Twice, implementation="auto")
    assert layer.plan.partition == ((0, 1, 2, 3),) == layer.candidates[0]
