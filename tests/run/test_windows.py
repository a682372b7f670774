"""Few short lines are convolved by one product of their windows, and come out the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tenfold import FactorizedConv
from tenfold.network import Geometry
from tenfold.run import fixed, windows
from tenfold.run.fixed import FixedConvolution


class Watch(TorchDispatchMode):
    """The operators that ran."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def convolved(way, x):
    """What a fixed convolution gives, and whether that was by a product."""
    with torch.no_grad(), Watch() as watch:
        y = way(x)
    products = watch.seen & {"mm", "addmm"}
    convolutions = {one for one in watch.seen if "convolution" in one}
    assert bool(products) != bool(convolutions)
    return y, bool(products)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), together=st.booleans(), biased=st.booleans())
def test_values_are_those_of_the_convolution(data, together, biased):
    small = st.integers(1, 4)
    batch, inner, outer, taps = (data.draw(small) for _ in range(4))
    stride, dilation, padding = data.draw(small), data.draw(small), data.draw(st.integers(0, 4))
    least = max(1, dilation * (taps - 1) + 1 - 2 * padding)
    length = least + data.draw(st.integers(0, 8))
    x = torch.randn(batch, inner, length)
    x = x.mT.contiguous().mT if together else x
    weight, bias = torch.randn(outer, inner, taps), torch.randn(outer) if biased else None
    geometry = Geometry((taps,), (stride,), (padding,), (dilation,), (0,))
    y, by_product = convolved(FixedConvolution(weight, bias, geometry, 1), x)
    assert torch.allclose(y, F.conv1d(x, weight, bias, stride, padding, dilation), atol=1e-5)
    assert by_product == (batch > 1)


LINE = Geometry((3,), (1,), (1,), (1,), (0,))
POINT = Geometry((1,), (1,), (0,), (1,), (0,))


@pytest.mark.parametrize(
    ("geometry", "shape", "groups", "by_product"),
    [
        (LINE, (8, 16, 20), 1, True),
        (LINE, (1, 16, 20), 1, False),  # PyTorch's own is as good
        (LINE, (64, 16, 40), 1, False),  # copies would cost more than they save
        (LINE, (8, 16, 20), 4, False),
        (POINT, (8, 16, 20), 1, True),
        (POINT, (8, 16, 40), 1, False),
    ],
)
def test_few_go_by_a_product(geometry, shape, groups, by_product):
    weight = torch.randn(16, shape[1] // groups, *geometry.kernel_size)
    packed = FixedConvolution(weight, torch.randn(16), geometry, groups)
    assert convolved(packed, torch.randn(shape))[1] == by_product
    unpacked = FixedConvolution(weight, None, geometry, groups, packed=False)
    assert not convolved(unpacked, torch.randn(shape))[1]
    wide = FixedConvolution(weight.double(), None, geometry, groups)
    assert not convolved(wide, torch.randn(shape, dtype=torch.float64))[1]


def test_more_go_by_a_product_where_the_channels_are_together_already():
    point = FixedConvolution(torch.randn(16, 16, 1), None, POINT, 1)
    x = torch.randn(8, 40, 16).mT
    assert convolved(point, x)[1]
    assert not convolved(point, x.contiguous())[1]


def test_an_input_below_the_kernel_is_refused_as_before():
    geometry = Geometry((5,), (3,), (0,), (1,), (0,))
    with pytest.raises(RuntimeError, match="Kernel size"):
        FixedConvolution(torch.randn(8, 4, 5), None, geometry, 1)(torch.randn(2, 4, 4))
    layer = FactorizedConv.from_conv(nn.Conv1d(4, 8, 5, 3), rank=0.5).eval()
    with torch.no_grad(), pytest.raises(ValueError, match="size"):
        layer(torch.randn(2, 4, 4))


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt", "spatial_svd"])
def test_a_layer_gives_contiguous_lines_the_same_as_by_convolutions(monkeypatch, factorization):
    torch.manual_seed(0)
    dense = nn.Conv1d(12, 16, 5, padding=2)
    layer = FactorizedConv.from_conv(dense, rank=0.5, factorization=factorization).eval()
    x, ran = torch.randn(4, 12, 20), []
    by_windows = fixed.by_windows
    monkeypatch.setattr(fixed, "by_windows", lambda *given: ran.append(1) or by_windows(*given))
    with torch.no_grad():
        y = layer(x)
        assert torch.equal(layer(x), y)
    assert ran
    assert y.is_contiguous()
    assert torch.allclose(
        y, F.conv1d(x, layer.weight.to_tensor(), dense.bias, padding=2), atol=1e-5
    )
    ran.clear()
    monkeypatch.setattr(windows, "FEW", 0)
    monkeypatch.setattr(windows, "FEW_LAID_OUT", 0)
    with torch.no_grad():
        wanted = layer.train().eval()(x)
    assert not ran
    assert torch.allclose(y, wanted, atol=1e-5)
