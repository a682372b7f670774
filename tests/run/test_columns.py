"""Images of one column are convolved as one row, and nothing else about them changes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import tenfold
from tenfold.network import Geometry
from tenfold.run.convolve import convolve, convolver
from tenfold.run.fixed import FixedConvolution

FORMATS = [torch.contiguous_format, torch.channels_last]


@st.composite
def columns(draw):
    """An input of one column, a weight, a bias, the geometry and the groups."""
    small = st.integers(1, 3)
    groups, inner, outer, taps = draw(small), draw(small), draw(small), draw(st.integers(1, 5))
    stride, dilation, padding = draw(small), draw(small), draw(st.integers(0, 3))
    transposed = draw(st.booleans())
    extra = draw(st.integers(0, max(stride, dilation) - 1)) if transposed else 0
    reach = dilation * (taps - 1) + 1
    least = 2 + (2 * padding - reach) // stride if transposed else reach - 2 * padding
    size = (draw(small), groups * inner, max(1, least) + draw(st.integers(0, 6)), 1)
    seed = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    shape = (groups * inner, outer) if transposed else (groups * outer, inner)
    x, weight = (
        torch.randn(one, generator=seed, dtype=torch.float64) for one in (size, (*shape, taps, 1))
    )
    bias = torch.randn(groups * outer, generator=seed, dtype=torch.float64)
    where = ((taps, 1), (stride, 1), (padding, 0), (dilation, 1), (extra, 0), transposed)
    return x, weight, bias, Geometry(*where), groups


def dense(x, weight, bias, geometry, groups):
    """PyTorch's own convolution of the column as it stands."""
    g = geometry
    if g.transposed:
        where = (g.stride, g.padding, g.output_padding, groups, g.dilation)
        return F.conv_transpose2d(x, weight, bias, *where)
    return F.conv2d(x, weight, bias, g.stride, g.padding, g.dilation, groups)


@settings(max_examples=150, deadline=None)
@given(drawn=columns(), format_=st.sampled_from(FORMATS))
def test_values_and_gradients_are_those_of_the_column_as_it_stands(drawn, format_):
    x, weight, bias, geometry, groups = drawn
    given = [one.requires_grad_() for one in (x.contiguous(memory_format=format_), weight, bias)]
    wanted = dense(*given, geometry, groups)
    made = [
        convolve(*given, geometry, groups),
        convolver(given[0], geometry, groups)(*given),
    ]
    weights = torch.linspace(1, 2, wanted.numel(), dtype=torch.float64).reshape(wanted.shape)
    theirs = torch.autograd.grad((weights * wanted).sum(), given)
    with torch.no_grad():
        fixed = FixedConvolution(weight, bias, geometry, groups)(x)
    assert torch.allclose(fixed, wanted, rtol=0, atol=1e-12)
    for y in made:
        assert torch.allclose(y, wanted, rtol=0, atol=1e-12)
        mine = torch.autograd.grad((weights * y).sum(), given)
        assert all(
            torch.allclose(a, b, rtol=0, atol=1e-10) for a, b in zip(mine, theirs, strict=True)
        )


@pytest.mark.parametrize("format_", FORMATS)
def test_packed_weights_are_those_of_rows_too(format_):
    torch.manual_seed(0)
    x = torch.randn(4, 32, 80, 1).contiguous(memory_format=format_)
    weight, bias = torch.randn(48, 32, 9, 1), torch.randn(48)
    geometry = Geometry((9, 1), (2, 1), (4, 0), (1, 1), (0, 0))
    fixed = FixedConvolution(weight, bias, geometry, 1)
    assert torch.allclose(fixed(x), dense(x, weight, bias, geometry, 1), atol=1e-3)
    assert fixed(x[:, :, :40]).shape == (4, 48, 20, 1)


def test_a_layer_convolves_columns_as_rows_and_wider_images_as_they_are(kernels):
    torch.manual_seed(0)
    layer = tenfold.FactorizedConv.from_conv(nn.Conv2d(8, 16, (5, 1)), rank=0.5).train()
    for width, kernel in ((1, (1, 5)), (2, (5, 1))):
        with kernels() as watch:
            layer(torch.randn(2, 8, 12, width))
        assert kernel in watch.seen
        assert kernel[::-1] not in watch.seen


def test_what_is_traced_takes_images_of_any_width():
    layer = tenfold.FactorizedConv.from_conv(nn.Conv2d(8, 16, (5, 1)), rank=0.5).eval()
    traced = torch.jit.trace(layer, torch.randn(2, 8, 12, 1))
    wide = torch.randn(2, 8, 12, 3)
    assert torch.allclose(traced(wide), layer(wide), atol=1e-5)
