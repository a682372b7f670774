"""What the laws do not say: that trained layers are converted."""

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv


@pytest.mark.parametrize("implementation", ["reconstructed", "factorized"])
@pytest.mark.parametrize("conv", [nn.Conv1d(6, 8, 3), nn.Conv2d(6, 8, 3), nn.Conv3d(6, 8, 3)])
def test_it_converts_a_trained_layer(conv, implementation):
    layer = FactorizedConv.from_conv(
        conv, rank=0.9, factorization="tensor_ring", implementation=implementation
    )
    x = torch.randn(2, 6, *(7,) * layer.order)
    gap = (layer(x) - layer.to_conv()(x)).abs().max()
    assert gap < 1e-5
    assert layer.weight.numel() <= 0.9 * conv.weight.numel()
