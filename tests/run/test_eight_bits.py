"""Kernels of weights in eight bits: what the plan's convolutions give once each is rounded."""

import pytest
import torch

from tenfold import FactorizedConv, relative_error
from tenfold.layer import swap_channels
from tenfold.run import dense_in_eight_bits, eight_bits, in_eight_bits

WAYS = [
    ("cp", "factorized"),
    ("cp", "mobilenet"),
    ("cp", "reconstructed"),
    ("tucker", "factorized"),
    ("tt", "factorized"),
    ("block_term", "factorized"),
    ("depthwise_separable", "factorized"),
    ("tucker+depthwise_separable", "factorized"),
    ("tucker", "fft"),
]


def rounded(module):
    """Each convolution's weight in 255 steps for each output channel, as PyTorch rounds it."""
    for conv in module.modules():
        if hasattr(conv, "weight"):
            axis = int(getattr(conv, "transposed", False))
            largest = conv.weight.detach().transpose(0, axis).flatten(1).abs().amax(1)
            scale = (largest / 127).clamp_min(1e-12)
            zeros = torch.zeros_like(scale, dtype=torch.int32)
            conv.weight.data = torch.fake_quantize_per_channel_affine(
                conv.weight.data, scale, zeros, axis, -127, 127
            )
    return module


@pytest.fixture
def uneven(monkeypatch):
    monkeypatch.setattr(eight_bits, "even_weights", lambda stages, weights: weights)


@torch.no_grad()
@pytest.mark.usefixtures("uneven")
@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize(("groups", "transposed"), [(1, False), (2, False), (1, True), (2, True)])
def test_the_kernel_is_that_of_the_plan_s_convolutions_rounded(way, groups, transposed):
    format_, implementation = way
    if implementation == "fft" and transposed:
        pytest.skip("fft has no transposed convolutions")
    torch.manual_seed(0)
    options = {"rank": 0.6, "factorization": format_, "implementation": implementation}
    layer = FactorizedConv(
        8, 12, (3, 3), groups=groups, transposed=transposed, bias=False, **options
    )
    kernel = layer.weight.to_tensor()
    found = in_eight_bits(layer.plan, layer.weight.network, tuple(layer.weight.factors), transposed)
    assert found.kernel.shape == kernel.shape
    assert 1e-4 < relative_error(kernel, found.kernel) < 0.1
    chain = rounded(layer.to_conv() if implementation == "fft" else layer.to_sequential())
    as_dense = layer.to_conv()
    as_dense.weight.copy_(swap_channels(found.kernel, groups) if transposed else found.kernel)
    x = torch.randn(2, 8, 6, 6)
    assert relative_error(chain(x), as_dense(x)) < 1e-5
    weights = [one.weight for one in chain.modules() if hasattr(one, "weight")]
    assert found.bytes >= sum(weight.numel() for weight in weights)


@torch.no_grad()
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("way", WAYS[:1] + WAYS[3:5] + WAYS[6:8], ids="-".join)
def test_how_large_a_factor_s_columns_are_does_not_count(way, transposed):
    torch.manual_seed(0)
    options = {"factorization": way[0], "transposed": transposed, "rank": 0.6}
    layer = FactorizedConv(8, 12, (3, 3), groups=2, **options)
    network, kernel, errors = layer.weight.network, layer.weight.to_tensor(), []
    for gain in (1.0, 100.0):
        factors = [factor.detach().clone() for factor in layer.weight.factors]
        for bond in network.bonds:
            sizes = torch.logspace(0, 2, network.sizes[bond]) ** (gain > 1)
            places = [index for index, modes in enumerate(network.factors) if bond in modes]
            for index, by in ((places[0], gain * sizes), (places[1], 1 / (gain * sizes))):
                axis = network.factors[index].index(bond)
                shape = [-1 if one == axis else 1 for one in range(factors[index].dim())]
                factors[index] *= by.reshape(shape)
        found = in_eight_bits(layer.plan, network, factors, transposed)
        errors.append(relative_error(kernel, found.kernel))
    assert errors[1] < 2 * errors[0] < 0.05


def test_a_channel_of_zeros_stays_and_each_has_a_step_of_its_own():
    kernel = torch.tensor([[1.0, 0.4], [0.0, 0.0], [1e-6, 0.4e-6]])
    found = dense_in_eight_bits(kernel, 1, False)
    assert torch.allclose(found.kernel, torch.tensor([1, 51 / 127]) * kernel[:, :1], rtol=1e-6)
    assert found.bytes == 6 + 3 * 5
