"""What the laws do not say: that trained layers are converted."""

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv


@pytest.mark.parametrize("implementation", ["reconstructed", "factorized"])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_it_converts_a_trained_layer(kind, implementation):
    conv = kind(6, 8, 3, dtype=torch.float64)
    layer = FactorizedConv.from_conv(
        conv, rank=0.9, factorization="tensor_ring", implementation=implementation
    )
    x = torch.randn(2, 6, *(7,) * layer.order, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.to_conv()(x))
    assert layer.weight.numel() <= 0.9 * conv.weight.numel()
