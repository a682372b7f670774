"""Whatever the arguments: a layer that is right, or a refusal that says what to do.

A call that works is made, one to three of its arguments are replaced by odd values, and it is
called. It must give a layer equal to the dense convolution, or raise exactly `ValueError` or
`TypeError` with a message that names an argument that was replaced.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.fuzzing import fuzzed, odd, outcome, spoiled
from torch import nn

from tenfold import (
    Energy,
    Error,
    FactorizedConv,
    FactorizedKernel,
    Multiple,
    factorizations,
    implementations,
    relative_error,
)

GEOMETRY = {"stride": 1, "padding": 1, "dilation": 1, "padding_mode": "zeros"}
GEOMETRY |= {"transposed": False, "output_padding": 0}
NAMES = {"rank": 2, "factorization": "tucker", "implementation": "factorized"}
LAYER = {"in_channels": 4, "out_channels": 6, "kernel_size": (3, 3), "groups": 1, "bias": True}
LAYER |= {**GEOMETRY, **NAMES, "order": 2, "device": None, "dtype": None, "generator": None}
CONVERSION = {**NAMES, "decompose_weights": True, "decomposition_kwargs": None}
CONVERSION |= {"moment": None, "generator": None}


def is_right(layer: FactorizedConv) -> None:
    """The layer equals its dense convolution."""
    size = (9,) * layer.order
    fits = all(0 < s < 100 for s in layer.config.geometry.output_size(size))
    if layer.weight.factors[0].is_meta or layer.order > 3 or not fits:
        return
    layer = layer.double()
    x = torch.randn(2, layer.config.in_channels, *size, dtype=torch.float64)
    assert relative_error(layer.to_conv()(x), layer(x)) < 1e-9


@fuzzed
@given(spoiled(LAYER))
def test_a_layer(replaced):
    layer = outcome(FactorizedConv, LAYER, replaced)
    if layer is not None:
        is_right(layer)


@fuzzed
@given(spoiled(CONVERSION), st.sampled_from([nn.Conv2d(4, 6, 3), nn.Linear(4, 6)]))
def test_a_conversion(replaced, conv):
    before = [parameter.detach().clone() for parameter in conv.parameters()]
    layer = outcome(FactorizedConv.from_conv, CONVERSION, replaced, conv=conv)
    if layer is not None:
        is_right(layer)
    assert all(map(torch.equal, before, conv.parameters()))


@fuzzed
@given(odd)
def test_a_source(conv):
    assert outcome(FactorizedConv.from_conv, {}, {"conv": conv}) is None


@fuzzed
@given(spoiled({**GEOMETRY, "bias": None, "implementation": "factorized", "kernel": None}))
def test_a_layer_around_a_kernel(replaced):
    kernel = FactorizedKernel.new((6, 4, 3, 3), rank=2)
    layer = outcome(FactorizedConv.from_factorization, {"kernel": kernel}, replaced)
    if layer is not None:
        is_right(layer)


NEW = {"shape": (6, 4, 3, 3), "rank": 2, "factorization": "tt", "groups": 1}
NEW |= {"device": None, "dtype": None, "generator": None}


@fuzzed
@given(spoiled(NEW))
def test_a_kernel(replaced):
    kernel = outcome(FactorizedKernel.new, NEW, replaced)
    if kernel is not None:
        assert kernel.numel() == sum(parameter.numel() for parameter in kernel.parameters())


TENSOR = {"tensor": torch.ones(6, 4, 3), "rank": 2, "factorization": "tt", "groups": 1}
TENSOR |= {"generator": None, "decomposition_kwargs": None, "moment": None}


@fuzzed
@given(spoiled(TENSOR))
def test_a_decomposition(replaced):
    kernel = outcome(FactorizedKernel.from_tensor, TENSOR, replaced)
    if kernel is not None:
        assert kernel.shape == TENSOR["tensor"].shape


@fuzzed
@given(st.sampled_from([factorizations, implementations]), odd)
def test_a_name(registry, name):
    assert isinstance(name in registry, bool)
    found = outcome(lambda **given: registry[given[registry.kind]], {}, {registry.kind: name})
    assert found is None or issubclass(found, registry.interface)


@fuzzed
@given(st.sampled_from([factorizations, implementations]), odd, odd)
def test_a_registration(registry, name, cls):
    before = registry.names()
    assert outcome(registry.register, {}, {"name": name, "cls": cls}) is None
    assert registry.names() == before


@fuzzed
@given(st.sampled_from([(Error, "most"), (Energy, "kept"), (Multiple, "base")]), odd)
def test_a_rank_request(request_and_argument, value):
    request, argument = request_and_argument
    made = outcome(request, {}, {argument: value})
    if made is not None:
        assert getattr(made, argument) == value


LAID = [{}, {"padding": 1}, {"stride": 2}, {"dilation": (2, 1)}, {"padding": (2, 0)}]
LAID += [{"padding": 1, "padding_mode": "reflect"}, {"padding": "same", "padding_mode": "circular"}]
LAID += [{"transposed": True}, {"transposed": True, "padding": 2, "stride": (1, 2)}]
RUN = ["factorized", "reconstructed", "mobilenet", "fft"]


@fuzzed
@given(st.data())
def test_an_input(data):
    laid, run = data.draw(st.sampled_from(LAID)), data.draw(st.sampled_from(RUN))
    if "transposed" in laid and run == "fft":
        run = "factorized"
    layer = FactorizedConv(4, 6, (3, 3), **laid, rank=2, implementation=run, dtype=torch.float64)
    layer.train(data.draw(st.booleans()))
    sizes = data.draw(
        st.lists(st.integers(0, 5), max_size=5)
        | st.lists(st.integers(0, 5), min_size=2, max_size=2)
    )
    shape = (2, 4, *sizes) if len(sizes) == 2 else tuple(sizes)
    dtype = data.draw(st.sampled_from([torch.float64] * 4 + [torch.float32, torch.int64]))
    x = data.draw(st.just(torch.ones(shape, dtype=dtype)) | odd)
    good = isinstance(x, torch.Tensor) and x.dtype == torch.float64 and x.dim() in (3, 4)
    with torch.no_grad():
        y = outcome(lambda **given: layer(given["input"]), {}, {"input": x})
        assert y is None or (good and relative_error(layer.to_conv()(x), y) < 1e-9)


@fuzzed
@given(st.lists(st.integers(0, 4), min_size=4, max_size=4), st.sampled_from(RUN[:2]))
def test_an_input_of_four_axes(size, run):
    layer = FactorizedConv(2, 3, 3, padding=(0, 1, 0, 1), order=4, rank=2, implementation=run)
    y = outcome(lambda **given: layer(given["input"]), {}, {"input": torch.ones(1, 2, *size)})
    assert (y is not None) == (min(size) > 0 and min(size[0], size[2]) > 2)


@fuzzed
@given(odd)
def test_a_size_to_count_for(size):
    layer = FactorizedConv(4, 6, (3, 3), padding=1, rank=2)
    counted = outcome(layer.macs, {}, {"size": size})
    assert counted is None or (isinstance(counted, int) and counted > 0)


@fuzzed
@given(odd)
def test_an_output_size(size):
    layer = FactorizedConv(4, 6, (3, 3), stride=2, transposed=True, rank=2)
    x = torch.zeros(1, 4, 5, 5)
    y = outcome(layer, {"x": x}, {"output_size": size})
    assert y is None or size is None or tuple(y.shape[-2:]) == tuple(size)[-2:]


@pytest.fixture(autouse=True)
def _numbers_are_the_same_each_time():
    torch.manual_seed(0)
