"""A fixed convolution is the dense one, whichever kernel runs it."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from tenfold import FactorizedConv, relative_error
from tenfold.run import fixed
from tenfold.run.convolve import is_channels_last
from tenfold.run.fixed import FixedConvolution
from tenfold.testing import dense_convolution, requests

ROUTES = {  # the thresholds, in multiply-accumulates, that send all small layers one way
    "oneDNN": {"SMALL": 0, "TINY": 0, "SINGLE": 0},
    "matrix products": {"SMALL": 10**12, "TINY": 0, "SINGLE": 0},
    "PyTorch": {"SMALL": 0, "TINY": 10**12, "SINGLE": 10**12},
    "as by default": {},
}
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.fixture(params=ROUTES)
def route(request, monkeypatch):
    for name, value in ROUTES[request.param].items():
        monkeypatch.setattr(fixed, name, value)


@pytest.fixture
def packed(monkeypatch):
    """The convolutions that went to oneDNN with a prepacked weight."""
    ran = []
    choose = FixedConvolution._packed
    monkeypatch.setattr(
        FixedConvolution, "_packed", lambda self, x: ran.append(self) or choose(self, x)
    )
    return ran


def make(**more):
    generator = torch.Generator().manual_seed(0)
    options = {"padding": 1, "rank": 32, "factorization": "tucker", **more}
    return FactorizedConv(64, 64, (3, 3), **options, generator=generator).eval()


def make_input(batch=4, channels_last=True):
    x = torch.randn(batch, 64, 20, 20, generator=torch.Generator().manual_seed(1))
    return x.to(memory_format=torch.channels_last) if channels_last else x


def dense(layer, x):
    return dense_convolution(x, layer.weight.to_tensor(), layer.bias, padding=(1, 1))


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=requests())
@torch.no_grad()
def test_any_convolution_is_the_dense_one_in_either_layout(pair, route, asked):
    layer, x = asked.layer(**pair).eval(), asked.input(torch.float32)
    wanted = asked.dense(x, layer.weight.to_tensor(), layer.bias)
    for layout in (torch.contiguous_format, LAYOUTS.get(x.dim(), torch.contiguous_format)):
        for image in (x, x[:1], x[:0]):
            given = image.contiguous(memory_format=layout)
            y = layer(given)
            assert y.shape == wanted[: len(image)].shape
            if len(image):
                assert not is_channels_last(given) or y.is_contiguous(memory_format=layout)
                assert relative_error(wanted[: len(image)], y) < 1e-5


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("size", [(4, 20), (1, 20), (2, 7), (1, 3), (1, 1), (4, 40)])
@torch.no_grad()
def test_inputs_of_other_sizes_run_on_the_same_packed_weight(route, size, channels_last):
    layer = make()
    layer(make_input())
    x = torch.randn(size[0], 64, size[1], size[1] + 1)
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    assert relative_error(dense(layer, x), layer(x)) < 1e-5


@torch.no_grad()
def test_float32_images_go_to_onednn_and_nothing_else_does(packed):
    layer, x = make(), make_input()
    layer(x)
    assert len(packed) == (1 if torch.backends.mkldnn.is_available() else 0)  # the 3×3
    packed.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert relative_error(dense(layer, x), y) < 5e-2
    for dtype, most in ((torch.float64, 1e-12), (torch.bfloat16, 5e-2)):
        other = copy.deepcopy(layer).to(dtype)
        assert other(x.to(dtype)).dtype == dtype
        assert relative_error(dense(layer.to(torch.float32), x), other(x.to(dtype))) < max(
            most, 1e-6
        )
    assert copy.deepcopy(layer).to("meta")(x.to("meta")).shape == x.shape
    assert packed == []


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")  # torch's, on any flags()
@torch.no_grad()
def test_without_onednn_it_is_pytorch_s_own(packed, monkeypatch):
    layer, x = make(), make_input()
    with torch.backends.mkldnn.flags(enabled=False):
        assert relative_error(dense(layer, x), layer(x)) < 1e-5
        assert packed == []
    assert relative_error(dense(layer, x), layer(x)) < 1e-5
    packed.clear()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    without = make()
    assert relative_error(dense(without, x), without(x)) < 1e-5
    assert packed == []


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")  # torch's, on any flags()
@torch.no_grad()
def test_the_way_of_an_input_is_another_under_autocast_and_without_onednn():
    x = make_input()

    def known(layer):
        layer(x)
        return len(layer.eval_cache._kept.ways)

    layer, fresh = make(), make()
    assert known(layer) == known(layer) == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), fresh(x))
        assert known(layer) == 2
    with torch.backends.mkldnn.flags(enabled=False):
        assert known(layer) == 3
    assert known(layer) == 3
    assert layer(x).dtype == torch.float32


@pytest.mark.parametrize("threads", [1, 2])
@torch.no_grad()
def test_any_number_of_threads_gives_the_dense_output(pair, threads):
    layer, x = make(**pair), make_input()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert relative_error(dense(layer, x), layer(x)) < 1e-5
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def test_an_input_with_gaps_or_an_offset_is_read_right(route):
    layer = make()
    wide = torch.randn(2, 64, 20, 40, generator=torch.Generator().manual_seed(2))
    for x in (wide, wide.to(memory_format=torch.channels_last)):
        for view in (x[..., ::2], x[1:, :, 3:], x.transpose(2, 3), x.expand(2, -1, -1, -1)):
            assert relative_error(dense(layer, view), layer(view)) < 1e-5


@torch.no_grad()
def test_a_wrong_dtype_is_refused():
    layer = make()
    layer(make_input())
    with pytest.raises(TypeError, match=r"dtype torch.float64 must have the layer's"):
        layer(make_input().double())


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("multiplier", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")  # torch's, on any flags()
@torch.no_grad()
def test_a_depthwise_convolution_with_a_multiplier_meets_its_input_repeated(order, multiplier):
    generator = torch.Generator().manual_seed(0)
    options = {"order": order, "stride": 2, "dilation": 2, "padding": 1, "rank": multiplier}
    layer = FactorizedConv(
        6, 5, 3, factorization="depthwise_separable", **options, generator=generator
    ).eval()
    repeats = torch.backends.mkldnn.is_available()
    factors = tuple(factor.detach() for factor in layer.weight.factors)
    first = layer.plan.prepare(factors, layer.bias.detach()).steps[0]
    assert first.copies == (multiplier if repeats else 1)
    x = torch.randn(2, 6, *(8, 7, 6)[:order], generator=generator)
    wanted = layer.to_conv()(x)
    for image in (x, x.to(memory_format=LAYOUTS[order + 2]) if order > 1 else x):
        for _ in range(2):
            assert relative_error(wanted, layer(image)) < 1e-5
    with torch.backends.mkldnn.flags(enabled=False):
        assert relative_error(wanted, layer(x)) < 1e-5
    assert relative_error(wanted, layer.double()(x.double())) < 1e-5


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_linear_layers_of_any_leading_axes_are_nn_linear(pair, route, bias):
    generator = torch.Generator().manual_seed(0)
    layer = FactorizedConv(96, 64, (), rank=24, bias=bias, **pair, generator=generator).eval()
    dense = layer.to_conv()
    for shape in ((2000,), (1,), (3, 700), (5, 1, 2), (0,)):
        x = torch.randn(*shape, 96, generator=generator)
        for rows in (x, x[..., :1].expand_as(x), x.transpose(-1, 0).clone().transpose(-1, 0)):
            for _ in range(2):
                assert layer(rows).shape == (*shape, 64)
                assert torch.allclose(dense(rows), layer(rows), atol=1e-5)
