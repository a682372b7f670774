"""TensorLy-Torch's own tests, by our names."""

import numpy as np
import pytest
import torch
from torch import nn, testing

from tenfold import tltorch


@pytest.mark.parametrize("factorization", ["CP", "Tucker", "TT"])
def test_factorized_tensor(factorization):
    shape = (4, 3, 2, 5)
    tensor = tltorch.FactorizedTensor.new(shape=shape, rank="same", factorization=factorization)
    tensor.normal_()
    assert tensor.name.lower() == factorization.lower()
    mapping = {"CP": tltorch.CPTensor, "Tucker": tltorch.TuckerTensor, "TT": tltorch.TTTensor}
    assert isinstance(tensor, mapping[factorization])
    whole = tensor.to_tensor()
    assert tensor.shape == whole.shape == shape
    for index in (np.s_[:, 2, :], np.s_[2:, :2, :, 0], np.s_[0, 2, 1, 3], np.s_[-1, :, :, ::2]):
        found = tensor[index]
        assert whole[index].shape == found.shape
        testing.assert_close(whole[index], found if torch.is_tensor(found) else found.to_tensor())


@pytest.mark.parametrize(
    "factorization", ["ComplexCP", "ComplexTucker", "ComplexTT", "ComplexDense"]
)
def test_complex_factorized_tensor(factorization):
    tensor = tltorch.FactorizedTensor.new((4, 3, 2, 5), rank="same", factorization=factorization)
    tensor.normal_()
    assert tensor.to_tensor().shape == (4, 3, 2, 5)
    assert tensor.to_tensor().dtype == torch.cfloat
    for parameter in tensor.parameters():
        assert parameter.dtype == torch.cfloat  # there float32, of one axis more


@pytest.mark.parametrize(
    ("factorization", "implementation"),
    [
        ("CP", "factorized"),
        ("CP", "reconstructed"),
        ("CP", "mobilenet"),
        ("Tucker", "factorized"),
        ("Tucker", "reconstructed"),
        ("TT", "factorized"),
        ("TT", "reconstructed"),
    ],
)
def test_single_conv(factorization, implementation):
    channels, out, size = 4, 5, (3, 3)
    shape = (channels, *size, out) if factorization == "TT" else (out, channels, *size)
    weights = tltorch.FactorizedTensor.new(shape, rank=0.5, factorization=factorization)
    weights.normal_(0, 1)
    full = weights.to_tensor().detach()
    full = full.movedim(-1, 0) if factorization == "TT" else full
    x = torch.rand(1, channels, 8, 7)
    conv = nn.Conv2d(channels, out, 3, bias=True, padding=1)
    conv.weight.data = full
    layer = tltorch.FactorizedConv.from_factorization(
        weights, implementation=implementation, bias=conv.bias.data, padding=1
    )
    assert layer.implementation == implementation
    testing.assert_close(layer(x), conv(x), rtol=1e-4, atol=1e-4)
    testing.assert_close(layer.weight.to_tensor(), full)
    testing.assert_close(layer.bias, conv.bias)

    conv = nn.Conv2d(channels, out, 3, bias=True, padding=1)
    conv.weight.data.uniform_(-1, 1)
    layer = tltorch.FactorizedConv.from_conv(conv, rank=30, factorization=factorization)
    testing.assert_close(layer(x), conv(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt_matrix", "kronecker"])
def test_linear_tensor_dot(factorization):
    x = torch.randn(2, 20)
    weight = tltorch.FactorizedTensor.new((12, 20), rank=3, factorization=factorization)
    wanted = x @ weight.to_tensor().T
    testing.assert_close(tltorch.functional.factorized_linear(x, weight), wanted)
