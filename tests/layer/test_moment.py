"""What a layer sees, and decompositions in its norm."""

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
    factorizations,
    measure_moments,
    relative_error,
)
from tenfold.demo.data import load_cnn, load_images
from tenfold.layer import moment
from tenfold.testing import requests


def correlated(channels, size, batch=12, seed=0):
    """Inputs whose channels and neighbours resemble each other, as real activations do."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, 3, generator=generator, dtype=torch.float64)
    few = torch.randn(batch, 3, *size, generator=generator, dtype=torch.float64)
    smooth = few + few.roll(1, -1) + few.roll(1, -2) if len(size) > 1 else few + few.roll(1, -1)
    noise = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    return torch.einsum("cf,nf...->nc...", mix, smooth) + 0.1 * noise


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")  # of nn.Conv, once a process
@settings(max_examples=60, deadline=None)
@given(request=requests())
def test_it_says_exactly_what_a_kernel_s_error_costs_the_output(request):
    conv = request.layer(factorization="tucker", dtype=torch.float64).to_conv()
    conv.bias = None
    seen = Moment(conv)
    x = request.input()
    seen.update(x)
    other = conv.weight.detach() + 0.1 * torch.randn_like(conv.weight)
    twin = request.layer(factorization="tucker", dtype=torch.float64).to_conv()
    twin.weight.data, twin.bias = other, None
    with torch.no_grad():
        y, gap = conv(x), conv(x) - twin(x)
    measured = float(gap.norm() / y.norm()) if float(y.norm()) else 0.0
    config = seen.config
    kernels = []
    for weight in (conv.weight.detach(), other):
        if config.transposed:
            apart = weight.unflatten(0, (config.groups, -1))
            weight = apart.transpose(1, 2).flatten(0, 1)
        kernels.append(weight)
    assert seen.output_error(*kernels) == pytest.approx(measured, rel=1e-6, abs=1e-9)


def test_batches_add_up_whatever_their_size(monkeypatch):
    conv, x = nn.Conv2d(6, 4, 3, padding=1, groups=2), correlated(6, (7, 7))
    whole, parts, chunks = Moment(conv), Moment(conv), Moment(conv)
    whole.update(x)
    for batch in x.split(5):
        parts.update(batch)
    monkeypatch.setattr(moment, "CHUNK", 100)
    chunks.update(x)
    for other in (parts, chunks):
        assert torch.allclose(other.matrix, whole.matrix)
        assert other.patches == whole.patches == 12 * 49
    assert whole.matrix.dtype == torch.float64
    assert whole.matrix.shape == (2, 27, 27)


@pytest.mark.parametrize("factorization", factorizations.names())
@pytest.mark.parametrize("groups", [1, 2])
def test_on_what_was_seen_the_output_error_is_never_above_the_plain_one(factorization, groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(12, 8, 3, padding=1, groups=groups, bias=False, dtype=torch.float64)
    seen, fresh = Moment(conv), Moment(conv)
    seen.update(correlated(12, (9, 9), batch=32))
    fresh.update(correlated(12, (9, 9), batch=16, seed=0)[:, :, 1:])
    network = factorizations[factorization]().network((8, 12 // groups, 3, 3), 0.5, groups)
    sizes = [network.sizes[bond] for bond in network.bonds]
    rank = sizes[0] if len(sizes) == 1 else tuple(sizes)
    request = {"rank": rank, "factorization": factorization, "groups": groups}
    plain, weighed = (
        FactorizedKernel.from_tensor(
            conv.weight, **request, moment=given, generator=torch.Generator().manual_seed(0)
        ).to_tensor()
        for given in (None, seen)
    )
    assert seen.output_error(conv.weight, weighed) <= seen.output_error(conv.weight, plain)


@pytest.mark.parametrize("factorization", ["tucker", "tt", "spatial_svd", "channel_svd"])
def test_on_held_out_images_the_output_error_is_well_below_the_plain_one(factorization):
    model = load_cnn()
    images, held_out = load_images("train")[0][:128], load_images("test")[0][:128]
    seen = measure_moments(model, ["conv1"], images.split(32))["conv1"]
    fresh = measure_moments(model, ["conv1"], [held_out])["conv1"]
    conv = model.get_submodule("conv1")
    errors = [
        fresh.output_error(
            conv.weight,
            FactorizedConv.from_conv(
                conv, rank=0.25, factorization=factorization, moment=given
            ).weight.to_tensor(),
        )
        for given in (None, seen)
    ]
    assert errors[1] < 0.7 * errors[0]


def test_channel_svd_is_the_optimum_in_the_norm_of_the_moment():
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 8, 3, bias=False, dtype=torch.float64)
    seen = Moment(conv)
    seen.update(correlated(5, (9, 9), batch=32))
    layer = FactorizedConv.from_conv(conv, rank=3, factorization="channel_svd", moment=seen)
    root = torch.linalg.cholesky(seen.matrix[0] + 1e-9 * torch.eye(45, dtype=torch.float64))
    values = torch.linalg.svdvals(conv.weight.detach().flatten(1) @ root)
    optimum = float((values[3:].square().sum() / values.square().sum()).sqrt())
    found = seen.output_error(conv.weight, layer.weight.to_tensor())
    assert found == pytest.approx(optimum, rel=1e-2)


def test_an_error_asked_for_with_a_moment_is_the_output_s():
    torch.manual_seed(0)
    conv = nn.Conv2d(12, 8, 3, padding=1)
    seen = Moment(conv)
    seen.update(correlated(12, (9, 9), batch=32).float())
    request = {"rank": Error(0.1), "factorization": "spatial_svd"}
    layer = FactorizedConv.from_conv(conv, **request, moment=seen)
    assert seen.output_error(conv.weight, layer.weight.to_tensor()) <= 0.1
    plain = FactorizedConv.from_conv(conv, **request)
    assert layer.weight.numel() < plain.weight.numel()
    assert relative_error(conv.weight, layer.weight.to_tensor()) > 0.1


def test_measuring_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 4, 3))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training = [module.training for module in model.modules()]
    found = measure_moments(
        model, ["0", "3"], [torch.randn(4, 1, 9, 9), (torch.randn(2, 1, 9, 9),)]
    )
    assert [module.training for module in model.modules()] == training
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert found["3"].patches == 6 * 25


@settings(max_examples=10, deadline=None)
@given(leading=st.lists(st.integers(1, 4), max_size=2))
def test_a_linear_layer_is_seen_at_every_leading_position(leading):
    seen = Moment(nn.Linear(5, 3))
    x = torch.randn(*leading, 5)
    seen.update(x)
    rows = x.reshape(-1, 5).double()
    assert torch.allclose(seen.matrix[0], rows.mT @ rows, atol=1e-4)


def test_bad_inputs_are_refused():
    conv = nn.Conv2d(3, 4, 3)
    seen = Moment(conv)
    with pytest.raises(ValueError, match="has seen no input yet"):
        FactorizedConv.from_conv(conv, moment=seen)
    with pytest.raises(ValueError, match=r"input of shape \(2, 4, 9, 9\) must have \(batch, 3"):
        seen.update(torch.randn(2, 4, 9, 9))
    with pytest.raises(ValueError, match="NaN or infinite"):
        seen.update(torch.full((2, 3, 9, 9), float("nan")))
    seen.update(torch.randn(2, 3, 9, 9))
    with pytest.raises(ValueError, match="give each layer its own"):
        FactorizedConv.from_conv(nn.Conv2d(3, 5, 3), moment=seen)
    with pytest.raises(TypeError, match="conv=ReLU must be"):
        Moment(nn.ReLU())
