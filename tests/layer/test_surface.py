"""What a convolution of torch.nn takes besides numbers: dtypes, devices, layouts and shapes."""

import copy
import inspect
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from tenfold import FactorizedConv, relative_error
from tenfold.run import convolve
from tenfold.testing import dense_convolution, requests

LAYERS = {  # arguments, and the size of an input
    "linear": ((6, 4, ()), {}, ()),
    "1-d": ((6, 4, 3), {"order": 1, "stride": 2, "padding": 1, "groups": 2}, (9,)),
    "2-d": ((6, 4, (3, 2)), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}, (8, 7)),
    "2-d reflect": ((6, 4, 3), {"order": 2, "padding": 1, "padding_mode": "reflect"}, (8, 7)),
    "2-d circular": ((6, 4, 3), {"order": 2, "padding": 2, "padding_mode": "circular"}, (8, 7)),
    "2-d same, even": ((6, 4, 4), {"order": 2, "padding": "same"}, (8, 7)),
    "2-d depthwise": ((4, 8, 3), {"order": 2, "groups": 4}, (8, 7)),
    "2-d transposed": (
        (6, 4, 3),
        {"order": 2, "transposed": True, "stride": 2, "output_padding": 1, "groups": 2},
        (4, 5),
    ),
    "3-d": ((6, 4, (3, 2, 2)), {"stride": (1, 2, 1), "padding": 1}, (5, 6, 5)),
    "3-d replicate": (
        (6, 4, 3),
        {"order": 3, "padding": 1, "padding_mode": "replicate"},
        (5, 4, 5),
    ),
    "3-d transposed": ((6, 4, 2), {"order": 3, "transposed": True, "stride": 2}, (3, 2, 3)),
    "4-d": ((6, 4, 2), {"order": 4, "stride": 2}, (3, 4, 4, 3)),
}
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
each_layer = pytest.mark.parametrize("name", LAYERS)
each_image = pytest.mark.parametrize(
    "name", [name for name in LAYERS if name[:3] in ("2-d", "3-d")]
)


def make(name: str, pair: dict[str, str], **more: object) -> FactorizedConv:
    positional, keywords, _ = LAYERS[name]
    generator = torch.Generator().manual_seed(0)
    return FactorizedConv(*positional, **keywords, **pair, **more, generator=generator)


def make_input(name: str, batch: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, LAYERS[name][0][0], *LAYERS[name][2])
    return torch.randn(shape, generator=generator).to(dtype)


@pytest.mark.parametrize("order", [2, 3])
@torch.no_grad()
def test_to_a_memory_format_and_back_is_as_for_a_dense_layer(pair, order):
    layout = LAYOUTS[order + 2]
    generator = torch.Generator().manual_seed(0)
    layer = FactorizedConv(6, 4, 3, order=order, padding=1, **pair, generator=generator).eval()
    dense, x = layer.to_conv(), torch.randn(2, 6, *(5,) * order)
    factors = [factor.detach().clone() for factor in layer.weight.factors]
    for asked in (layout, torch.contiguous_format):
        layer.to(memory_format=asked), dense.to(memory_format=asked)
        y = layer(x)
        assert y.stride() == dense(x).stride()
        assert relative_error(dense(x), y) < 1e-5
        assert layer.double()(x.double()).stride() == y.stride()
        layer.float()
    assert all(map(torch.equal, factors, layer.weight.factors))


@settings(max_examples=20, deadline=None)
@given(asked=requests())
def test_in_float32_it_is_the_dense_convolution_to_1e_5(pair, asked):
    layer, x = asked.layer(**pair), asked.input(torch.float32)
    dense = asked.dense(x, layer.weight.to_tensor(), layer.bias)
    assert layer(x).dtype == torch.float32
    assert relative_error(dense, layer(x)) < 1e-5


@each_layer
@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 5e-2), (torch.float16, 1e-2)])
def test_parameters_in_half_precision_give_the_float32_output_in_that_dtype(
    pair, name, dtype, most
):
    layer, x = make(name, pair, dtype=dtype), make_input(name, dtype=dtype)
    assert {parameter.dtype for parameter in layer.parameters()} == {dtype}
    y, wide = layer(x), copy.deepcopy(layer).float()(x.float())
    assert y.dtype == dtype
    assert relative_error(wide, y) < most


@each_layer
def test_autocast_gives_bfloat16_near_the_dense_output(pair, name):
    layer, x = make(name, pair), make_input(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert relative_error(layer(x), y) < 5e-2
    y.float().sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in layer.parameters())


@each_layer
def test_on_the_meta_device_shapes_are_known_and_nothing_is_computed(pair, name):
    layer = make(name, pair, device="meta")
    y = layer(make_input(name).to("meta"))
    assert y.is_meta
    assert y.shape == make(name, pair)(make_input(name)).shape


@pytest.mark.parametrize("make_source", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_convolution_on_the_meta_device_converts_to_one_there(pair, make_source):
    source = make_source(6, 4, (3, 2), device="meta")
    layer = FactorizedConv.from_conv(source, rank=3, **pair)
    assert all(parameter.is_meta for parameter in layer.parameters())
    assert layer(torch.empty(2, 6, 5, 5, device="meta")).shape[:2] == (2, 4)


@each_layer
def test_an_unbatched_input_gives_an_unbatched_output(pair, name):
    layer, x = make(name, pair), make_input(name)
    assert layer(x[0]).shape == layer(x).shape[1:]
    assert relative_error(layer(x)[0], layer(x[0])) < 1e-6


@each_layer
def test_an_empty_batch_gives_an_empty_batch_and_zero_gradients(pair, name):
    layer, x = make(name, pair), make_input(name)
    y = layer(x[:0])
    assert y.shape == (0, *layer(x).shape[1:])
    y.sum().backward()
    assert all(not parameter.grad.any() for parameter in layer.parameters())


@each_image
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_last_in_gives_channels_last_out_and_the_same_numbers(pair, name, dtype):
    layer, x = make(name, pair, dtype=dtype), make_input(name, dtype=dtype)
    plain, y = layer(x), layer(x.to(memory_format=LAYOUTS[x.dim()]))
    assert plain.is_contiguous()
    assert y.is_contiguous(memory_format=LAYOUTS[x.dim()])
    assert relative_error(plain, y) < 1e-5


def test_numpy_integers_are_integers(pair):
    i = np.int64
    layer = FactorizedConv(
        i(4), i(6), i(3), i(2), i(1), i(1), i(2), order=i(2), rank=i(3), output_padding=i(0), **pair
    )
    assert layer(torch.zeros(1, 4, 5, 5)).shape == (1, 6, 3, 3)
    mixed = FactorizedConv(4, 6, (i(3), 3), stride=(2, i(2)), padding=[i(1), 1], groups=2, **pair)
    assert mixed.config == layer.config
    upward = FactorizedConv(4, 6, 3, i(2), order=2, transposed=True, output_padding=i(1), **pair)
    assert upward(torch.zeros(1, 4, 5, 5)).shape == (1, 6, 12, 12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_same_padding_of_an_even_kernel_keeps_the_size(pair, order):
    layer = FactorizedConv(3, 5, (4, 2, 2, 4)[:order], padding="same", dilation=3, **pair)
    x = torch.randn(2, 3, *(7, 6, 5, 4)[:order])
    kernel, dilation = layer.weight.to_tensor(), (3,) * order
    dense = dense_convolution(x, kernel, layer.bias, padding="same", dilation=dilation)
    assert layer(x).shape == (2, 5, *x.shape[2:])
    assert relative_error(dense, layer(x)) < 1e-5


@pytest.mark.parametrize("extra", [(0, 0), (1, 0), (2, 1), (0, 1)])
@pytest.mark.parametrize("leading", [(), (2, 6)])
def test_output_size_chooses_the_size_as_nn_conv_transpose_does(pair, extra, leading):
    options = {"stride": (3, 2), "padding": 1, "output_padding": (1, 1)}
    layer = FactorizedConv(6, 4, (3, 2), **options, transposed=True, **pair)
    x = torch.randn(2, 6, 4, 5)
    wanted = (*leading, 10 + extra[0], 8 + extra[1])
    y = layer.to_conv()(x, output_size=wanted)
    assert layer(x, output_size=wanted).shape == y.shape
    assert relative_error(y, layer(x, output_size=list(wanted))) < 1e-5
    assert layer(x[0], output_size=wanted[-2:]).shape == y.shape[1:]


def test_output_size_may_name_the_channels_of_an_unbatched_input_too():
    layer = FactorizedConv(6, 4, (3, 2), stride=2, transposed=True)
    x, wanted = torch.randn(6, 4, 5), (4, 10, 11)
    assert layer.to_conv()(x, output_size=wanted).shape == wanted
    assert layer(x, output_size=wanted).shape == wanted


@pytest.mark.parametrize(
    ("transposed", "wanted", "message"),
    [
        (True, (9, 8), r"output_size=\(9, 8\).*between \(10, 8\) and \(12, 9\)"),
        (True, (10, 10), r"output_size=\(10, 10\).*between \(10, 8\) and \(12, 9\)"),
        (True, (10,), r"output_size=\(10,\).* 2 "),
        (True, (1, 10, 8), r"output_size=\(1, 10, 8\).* 2 "),
        (False, (4, 5), r"output_size=\(4, 5\) is for transposed"),
    ],
)
def test_an_output_size_that_cannot_be_is_refused(transposed, wanted, message):
    options = {"stride": (3, 2), "padding": 1}
    layer = FactorizedConv(6, 4, (3, 2), **options, transposed=transposed)
    with pytest.raises(ValueError, match=message):
        layer(torch.randn(2, 6, 4, 5), output_size=wanted)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 0, 3), (2, 3, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_at_order_0_it_maps_the_last_axis_as_nn_linear_does(pair, leading, groups):
    layer = FactorizedConv(6, 4, (), groups=groups, rank=2, **pair)
    x = torch.randn(*leading, 6)
    assert layer(x).shape == (*leading, 4)
    assert relative_error(layer.to_conv()(x), layer(x)) < 1e-5


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("linear", (2, 5)),
        ("linear", (5,)),
        ("linear", (3, 2, 5)),
        ("1-d", (6,)),
        ("2-d", (2, 5, 8, 7)),
        ("2-d", (5, 8, 7)),
        ("2-d", (8, 7)),
        ("2-d", (1, 2, 6, 8, 7)),
        ("3-d transposed", (2, 4, 3, 2, 3)),
        ("4-d", (6, 3, 4, 4)),
    ],
)
def test_an_input_of_the_wrong_shape_is_refused_by_its_shape(name, shape):
    with pytest.raises(ValueError, match=rf"input of shape {re.escape(str(shape))} must .*6"):
        make(name, {})(torch.zeros(shape))


def test_the_arguments_have_the_names_order_and_defaults_of_nn_conv():
    theirs = list(inspect.signature(nn.Conv2d).parameters.values())[:9]
    mine = list(inspect.signature(FactorizedConv).parameters.values())[:9]
    assert [(p.name, p.default, p.kind) for p in mine] == [
        (p.name, p.default, p.kind) for p in theirs
    ]


@pytest.mark.parametrize("few", [0, 10**9])
@pytest.mark.parametrize("order", [2, 3])
def test_training_with_the_channels_together_has_the_dense_gradients(pair, order, few, monkeypatch):
    """Whether 1×1 stages run as convolutions or as matrix products."""
    monkeypatch.setattr(convolve, "FEW", few)
    generator = torch.Generator().manual_seed(0)
    options = {"order": order, "padding": 1, "dtype": torch.float64}
    layer = FactorizedConv(6, 4, 3, **options, **pair, generator=generator)
    x = torch.randn(2, 6, *(5,) * order, dtype=torch.float64, generator=generator)
    x = x.to(memory_format=LAYOUTS[order + 2]).requires_grad_()
    parameters = [x, *layer.parameters()]
    y = layer(x)
    assert y.is_contiguous(memory_format=LAYOUTS[order + 2])
    wanted = dense_convolution(x, layer.weight.to_tensor(), layer.bias, padding=(1,) * order)
    assert relative_error(wanted, y) < 1e-12
    slopes = torch.autograd.grad(y.sin().sum(), parameters)
    for one, slope in zip(torch.autograd.grad(wanted.sin().sum(), parameters), slopes, strict=True):
        assert relative_error(one, slope) < 1e-10
