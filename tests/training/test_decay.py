"""The decay of kernels from their factors is that of the dense kernels."""

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from tenfold import (
    Cuttlefish,
    FactorizedConv,
    FactorizedKernel,
    decoupled_decay,
    frobenius_decay,
    parameter_groups,
)
from tenfold.testing import Request, requests

FORMATS = ("cp", "tucker", "tt", "spatial_svd", "hadamard", "kronecker", "depthwise_separable",
           "block_term", "tt_matrix", "tucker+depthwise_separable", "cp+cp")  # fmt: skip


def kernel(factorization: str, **options) -> FactorizedKernel:
    return FactorizedKernel.new((8, 4, 3, 3), rank=2, factorization=factorization, **options)


def dense_decay(one: FactorizedKernel, weight: float) -> torch.Tensor:
    return weight / 2 * one.to_tensor().abs().square().sum()


@pytest.mark.parametrize("factorization", FORMATS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_its_value_and_gradients_are_those_of_the_dense_kernel(factorization, groups, dtype):
    one = kernel(factorization, groups=groups, dtype=dtype)
    found, wanted = frobenius_decay(one, 0.3), dense_decay(one, 0.3)
    assert torch.allclose(found, wanted)
    factors = list(one.parameters())
    for mine, theirs in zip(
        torch.autograd.grad(found, factors), torch.autograd.grad(wanted, factors), strict=True
    ):
        assert torch.allclose(mine, theirs)


def test_the_kernel_is_never_made():
    huge = FactorizedKernel.new((10**6, 10**6, 3, 3), rank=1)  # 36 terabytes
    assert float(frobenius_decay(huge, 2.0).detach()) == pytest.approx(10**6 / 3, rel=1e-3)


def test_all_layers_count_and_a_shared_one_once():
    first, second = (FactorizedConv(4, 4, (3, 3), rank=2) for _ in range(2))
    found = frobenius_decay(nn.Sequential(first, nn.Conv2d(4, 4, 1), second, first), 0.1)
    assert torch.allclose(found, dense_decay(first.weight, 0.1) + dense_decay(second.weight, 0.1))


def test_a_dense_model_has_none():
    assert float(frobenius_decay(nn.Conv2d(4, 4, 3), 0.1)) == 0.0


def test_under_autocast_it_is_computed_in_the_factors_dtype():
    one = kernel("tucker")
    with torch.autocast("cpu", torch.bfloat16):
        found = frobenius_decay(one, 0.1)
    assert found.dtype == torch.float32
    assert torch.equal(found, frobenius_decay(one, 0.1))


def test_sgd_with_it_decays_a_full_kernel_as_sgd_decays_a_dense_one():
    """To first order in the learning rate, where one factor is trained and the other an
    isometry."""
    layer = FactorizedConv(6, 4, (3,), rank=10**9, factorization="channel_svd", bias=False)
    with torch.no_grad():
        layer.weight.factors[1].copy_(torch.linalg.qr(torch.randn(4, 4))[0])
    layer.weight.factors[1].requires_grad_(False)
    before = layer.weight.to_tensor().detach()
    optimizer = torch.optim.SGD(parameter_groups(layer, 0.5), lr=0.1)
    frobenius_decay(layer, 0.5).backward()
    optimizer.step()
    assert torch.allclose(layer.weight.to_tensor(), (1 - 0.1 * 0.5) * before, atol=1e-6)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_the_decoupled_form_takes_the_gradient_off_past_the_moments(make):
    layer = FactorizedConv(4, 6, (3, 3), rank=2, factorization="tucker")
    groups = parameter_groups(layer, 0.5)
    groups[1]["lr"] = 0.05
    optimizer = make(groups, lr=0.1)
    factors = list(layer.weight.factors)
    slopes = torch.autograd.grad(frobenius_decay(layer, 0.5), factors)
    wanted = [f.detach() - 0.05 * slope for f, slope in zip(factors, slopes, strict=True)]
    handle = decoupled_decay(optimizer, layer, 0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert all(map(torch.allclose, factors, wanted))
    handle.remove()
    optimizer.step()
    assert all(map(torch.allclose, factors, wanted))


def test_the_decoupled_form_leaves_factors_that_are_not_trained():
    layer = FactorizedConv(4, 6, (3, 3), rank=2, factorization="tucker")
    still, *others = layer.weight.factors
    optimizer = torch.optim.SGD(others, lr=0.1)
    decoupled_decay(optimizer, layer, 0.5)
    before = [one.detach().clone() for one in (still, others[0])]
    optimizer.step()
    assert torch.equal(still, before[0])
    assert not torch.equal(others[0], before[1])


def test_the_decoupled_form_decays_factors_that_come_later():
    model = nn.Sequential(nn.Conv2d(4, 8, 3))
    optimizer = torch.optim.SGD(parameter_groups(model, 0.0), lr=0.1)
    decoupled_decay(optimizer, model, 0.5)
    optimizer.step()
    watch = Cuttlefish(model, optimizer, rank=0.5)
    watch.step()
    watch.step()
    before = model[0].weight.to_tensor().detach().norm()
    optimizer.step()
    assert float(model[0].weight.to_tensor().detach().norm()) < float(before)


def test_the_decoupled_form_needs_a_factor_to_train():
    model = nn.ModuleList([nn.Conv2d(4, 4, 3), FactorizedConv(4, 4, (3, 3))])
    with pytest.raises(ValueError, match="optimizer trains no factor"):
        decoupled_decay(torch.optim.SGD(model[0].parameters(), lr=0.1), model, 0.1)


@settings(max_examples=20, deadline=None)
@given(requests(), requests())
def test_each_trained_parameter_is_in_one_group(one: Request, other: Request):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Embedding(5, 3))
    layers = [one.layer() for one in (one, other)]
    model.extend([*layers, layers[0]])
    model[0].bias.requires_grad_(False)
    decayed, others = parameter_groups(model, 0.1)
    found = [*decayed["params"], *others["params"]]
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sorted(map(id, found)) == sorted(map(id, trained))
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight), id(model[2].weight)]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "0.1", True, None])
def test_another_decay_is_refused(weight):
    for call in (frobenius_decay, parameter_groups):
        with pytest.raises((ValueError, TypeError), match="weight_decay"):
            call(nn.Linear(2, 2), weight)
