"""Complex kernels: every format, run every way, drawn, decomposed, saved and loaded."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import (
    Error,
    FactorizedConv,
    FactorizedKernel,
    Moment,
    compress,
    decompose,
    factorizations,
    implementations,
    load,
    relative_error,
    save,
    to_plain,
)
from tenfold.testing import requests

NAMES = (*factorizations.names(), "tucker+depthwise_separable")


def real_parts(asked, layer, x):
    """The dense convolution by its real and imaginary parts, which the oracle takes."""
    kernel = layer.weight.to_tensor()
    parts = [
        [asked.dense(one.double(), other.double(), None) for other in (kernel.real, kernel.imag)]
        for one in (x.real, x.imag)
    ]
    (rr, ri), (ir, ii) = parts
    dense = torch.complex(rr - ii, ri + ir)
    return dense if layer.bias is None else dense + layer.bias.reshape(-1, *(1,) * (x.dim() - 2))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6, deadline=None)
@given(asked=requests(), data=st.data())
def test_every_way_of_running_is_the_dense_convolution(name, asked, data):
    way = data.draw(st.sampled_from(implementations.names()))
    try:
        layer = asked.layer(factorization=name, implementation=way, dtype=torch.complex128)
    except ValueError as refusal:
        if "cannot run" in str(refusal):
            return
        raise
    x = torch.complex(asked.input(), asked.input().flip(0).roll(1, -1))
    x.requires_grad_()
    inputs = [x, *layer.parameters()]
    y, dense = layer(x), real_parts(asked, layer, x)
    for one, other in zip(
        (y, *torch.autograd.grad(y.abs().square().sum(), inputs, materialize_grads=True)),
        (dense, *torch.autograd.grad(dense.abs().square().sum(), inputs, materialize_grads=True)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
    with torch.no_grad():
        torch.testing.assert_close(layer.eval()(x), dense, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(layer(x), dense, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_full_rank_is_exact(name, groups):
    kernel = torch.randn(8, 6, 3, 3, dtype=torch.complex128)
    made = FactorizedKernel.from_tensor(kernel, rank=10**9, factorization=name, groups=groups)
    assert relative_error(kernel, made.to_tensor()) < 1e-5


@pytest.mark.parametrize("name", ["tt", "tucker", "cp", "kronecker"])
def test_a_complex_kernel_is_decomposed_as_well_as_a_real_one(name):
    kernel = torch.randn(8, 6, 3, 3, dtype=torch.float64)
    turn = torch.polar(torch.ones(8), torch.arange(8.0)).to(torch.complex128)
    found = [
        decompose(one, rank=0.4, factorization=name)
        for one in (kernel, kernel * turn[:, None, None, None])
    ]
    real = decompose(kernel, rank=found[1].rank, factorization=name)
    assert found[1].error < 1.05 * real.error
    assert found[1].sensitivity > 0


@pytest.mark.parametrize("groups", [1, 2])
def test_a_moment_is_what_errors_cost_the_output_of_a_complex_layer(groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, groups=groups, bias=False, dtype=torch.complex128)
    other = nn.Conv2d(4, 8, 3, groups=groups, bias=False, dtype=torch.complex128)
    moment = Moment(conv)
    x = torch.randn(5, 4, 7, 7, dtype=torch.complex128).cumsum(1)
    for batch in x.split(2):
        moment.update(batch)
    error = relative_error(conv(x), other(x))
    assert abs(moment.output_error(conv.weight, other.weight) / error - 1) < 1e-9


@pytest.mark.parametrize(
    "name", ["channel_svd", "tucker", "cp", "tt_matrix", "hadamard", "tucker+depthwise_separable"]
)
def test_a_moment_lowers_the_error_of_the_output(name):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 10, 3, dtype=torch.complex64)
    moment = Moment(conv)
    turn = torch.polar(torch.ones(6), torch.arange(6.0))[:, None, None]
    x = torch.randn(60, 6, 7, 7, dtype=torch.complex64).cumsum(1) * turn
    moment.update(x)
    errors = []
    for seen in (moment, None):
        made = FactorizedConv.from_conv(conv, rank=0.5, factorization=name, moment=seen)
        errors.append(relative_error(conv(x) - conv.bias[:, None, None], kernel_of(made)(x)))
    assert errors[0] < 0.9 * errors[1]


def kernel_of(layer):
    conv = layer.to_conv()
    conv.bias = None
    return conv


def test_ranks_of_a_complex_kernel_are_chosen_by_it():
    left, right = (torch.randn(*s, dtype=torch.complex128) for s in ((32, 2), (2, 24)))
    kernel = (left @ right).reshape(32, 24, 1) * torch.randn(3, dtype=torch.complex128)
    made = decompose(kernel, rank=0.15, factorization="tucker")
    assert made.error < 1e-5
    assert made.kernel.rank == (2, 2) or made.kernel.numel() <= 0.15 * 32 * 24 * 3


def test_a_fresh_kernel_has_the_variance_of_a_dense_one():
    torch.manual_seed(0)
    dense = nn.Conv2d(64, 64, 3, dtype=torch.complex64).weight.detach().abs().square().mean()
    made = FactorizedConv(64, 64, (3, 3), rank=0.3, dtype=torch.complex64)
    made = made.weight.to_tensor().detach()
    assert 0.9 < float(made.abs().square().mean() / dense) < 1.1
    assert 0.3 < float(made.imag.square().mean() / made.abs().square().mean()) < 0.7


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("name", ["tucker", "tucker+depthwise_separable"])
def test_it_travels_and_leaves(name, dtype, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 8, 3, dtype=dtype))
    made = nn.Sequential(FactorizedConv.from_conv(net[0], rank=Error(0.5), factorization=name))
    x = torch.randn(2, 4, 7, 7, dtype=dtype)
    y = made(x)
    saved = io.BytesIO()
    torch.save(made.state_dict(), saved)
    saved.seek(0)
    again = copy.deepcopy(made)
    again[0].reset_parameters()
    again.load_state_dict(torch.load(saved))
    save(made, tmp_path / "made")
    for other in (again, pickle.loads(pickle.dumps(made)), load(tmp_path / "made", net)):
        assert torch.equal(other(x), y)
    assert relative_error(y, to_plain(made)(x)) < 1e-5
    assert relative_error(y, made[0].to_conv()(x)) < 1e-5


def test_what_is_of_real_kernels_alone_is_refused():
    conv = nn.Conv2d(4, 8, 3, dtype=torch.complex64)
    moment = Moment(conv)
    moment.update(torch.randn(2, 4, 7, 7, dtype=torch.complex64))
    with pytest.raises(ValueError, match="moment= is of complex inputs and the kernel is real"):
        FactorizedConv.from_conv(nn.Conv2d(4, 8, 3), moment=moment)
    x = torch.randn(2, 4, 7, 7, dtype=torch.complex64)
    with pytest.raises(ValueError, match="its weight is complex"):
        compress(nn.Sequential(conv), example_inputs=x, calibration=[x], budget=0.5, progress=False)
