"""Inputs of odd kinds: a layer gives what a dense one gives, or refuses by name with a remedy."""

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, relative_error

pytestmark = pytest.mark.filterwarnings("ignore:.*(nested|CSR|CSC|[Qq]uantiz|TypedStorage)")

LAYERS = {
    "linear": ((), "factorized"),
    "linear, chosen by measuring": ((), "auto"),
    "convolution": ((3, 3), "factorized"),
    "convolution, chosen by measuring": ((3,), "auto"),
    "by fourier transforms": ((3, 3), "fft"),
}


@pytest.fixture(autouse=True)
def _choices_are_not_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("TENFOLD_CACHE", str(tmp_path))


def make(name, training=False):
    kernel, run = LAYERS[name]
    made = FactorizedConv(8, 6, kernel, rank=4, implementation=run)
    return made.requires_grad_(training).train(training)


def dense_input(layer):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 8, *(9,) * layer.order, generator=generator)


def compressed(x, layout):
    return x.to_sparse(layout=layout, dense_dim=None if x.dim() == 2 else x.dim() - 2)


ODD = {
    "layout torch.sparse_coo must be dense": lambda x: x.to_sparse(),
    "layout torch.sparse_csr must be dense": lambda x: compressed(x, torch.sparse_csr),
    "layout torch.sparse_csc must be dense": lambda x: compressed(x, torch.sparse_csc),
    r"layout torch._mkldnn must be dense: use \.to_dense\(\)": lambda x: x.to_mkldnn(),
    "nested tensor: give input.to_padded": lambda x: torch.nested.nested_tensor(list(x)),
    "a nested tensor": lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged),
    r"complex64 must have the layer's, torch.float32: run it on \.real": lambda x: x.cfloat(),
    r"quint8 .* torch.float32: use \.dequantize\(\)": lambda x: torch.quantize_per_tensor(
        x, 0.1, 0, torch.quint8
    ),
    "dtype torch.int64 must have the layer's": lambda x: x.long(),
    "dtype torch.bool must have the layer's": lambda x: x > 0,
    "dtype torch.float64 must have the layer's": lambda x: x.double(),
    "input on meta must be on the layer's, cpu": lambda x: x.to("meta"),
    "input=ndarray must be a tensor: torch.as_tensor makes one": lambda x: x.numpy(),
    "input=list must be a tensor": lambda x: x.tolist(),
    "input=tuple must be a tensor": lambda x: (x,),
    "input=NoneType must be a tensor": lambda x: None,
}
TAKEN = {"coo": torch.sparse_coo, "csr": torch.sparse_csr, "csc": torch.sparse_csc}


@pytest.mark.parametrize("when", ["training", "eval", "after others", "under autocast"])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("message", ODD)
def test_another_kind_is_refused_by_name(message, name, when):
    layer = make(name, training=when == "training")
    x = dense_input(layer)
    if when == "after others":
        layer(x), layer(x)
    given = ODD[message](x)
    if isinstance(given, torch.Tensor) and given.layout in TAKEN.values() and layer.order == 0:
        return
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=when == "under autocast")
    with autocast, pytest.raises((TypeError, ValueError), match=message):
        layer(given)
    if when == "after others":
        assert layer(x).shape[:2] == (5, 6)


@pytest.mark.parametrize("run", ["factorized", "reconstructed", "mobilenet", "auto"])
@pytest.mark.parametrize("layout", TAKEN)
@pytest.mark.parametrize("training", [True, False])
def test_a_linear_layer_takes_sparse_rows(layout, run, training):
    layer = FactorizedConv(8, 6, (), rank=4, implementation=run).train(training)
    x = dense_input(layer).relu()
    want = layer.to_conv()(x)
    with torch.set_grad_enabled(training):
        for _ in range(2):
            y = layer(x.to_sparse(layout=TAKEN[layout]))
            assert relative_error(want, y) < 1e-6
            assert relative_error(want, layer(x)) < 1e-6
    if training:
        y.square().sum().backward()
        assert all(bool(p.grad.any()) for p in layer.parameters())


def test_sparse_tensors_of_more_axes_are_refused_where_a_dense_layer_fails():
    for layer in (make("linear"), make("linear", training=True)):
        with pytest.raises(TypeError, match=r"layout torch.sparse_coo must be dense"):
            layer(torch.eye(8).expand(2, 8, 8).to_sparse())


def test_a_tensor_whose_strides_look_sparse_does_not_open_the_way_for_sparse_ones():
    layer = make("convolution")
    flat = torch.ones(()).expand(5, 8, 9, 9)
    assert flat.stride() == flat.to_sparse().stride()
    layer(flat), layer(flat)
    with pytest.raises(TypeError, match="must be dense"):
        layer(flat.to_sparse())
    rows = make("linear")
    flat = torch.ones(5, 1).expand(5, 8)
    assert flat.stride() == flat.to_mkldnn().stride()
    rows(flat), rows(flat)
    with pytest.raises(TypeError, match="must be dense"):
        rows(flat.to_mkldnn())


@pytest.mark.parametrize("name", LAYERS)
def test_subclasses_parameters_and_lazy_views_are_tensors(name):
    class Own(torch.Tensor):
        pass

    layer = make(name)
    x = dense_input(layer)
    want = layer.to_conv()(x)
    conjugate = torch.complex(x, -x).conj().imag  # its negation is not done yet
    with torch.inference_mode():
        made_there = x.clone()
    for given in (x.as_subclass(Own), nn.Parameter(x), conjugate, made_there):
        assert relative_error(want, layer(given)) < 1e-5
        assert relative_error(want, layer(given)) < 1e-5
    assert type(layer(x.as_subclass(Own))) is Own


def test_a_float64_layer_under_autocast_takes_float64_and_nothing_else():
    layer = FactorizedConv(8, 6, (3, 3), rank=4, dtype=torch.float64)
    x = dense_input(layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.double()).dtype == torch.float64
        with pytest.raises(TypeError, match=r"float32 must have the layer's, torch.float64"):
            layer(x)


def test_a_layer_on_another_device_is_named():
    layer = FactorizedConv(8, 6, (3, 3), rank=4, device="meta")
    with pytest.raises(ValueError, match="input on cpu must be on the layer's, meta: move one"):
        layer(dense_input(layer))
    with pytest.raises(TypeError, match=r"dtype torch.float64 must have"):
        layer(dense_input(layer).double().to("meta"))
