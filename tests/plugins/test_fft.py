"""The implementation `fft`: equal to the dense convolution where it applies, refused elsewhere."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tenfold import FactorizedConv, factorizations, relative_error
from tenfold.testing import requests

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))


def large(order: int, **changes: object) -> FactorizedConv:
    """A layer with a kernel as large as a test has time for."""
    wide = {1: (63,), 2: (15, 9), 3: (7, 4, 5)}[order]
    arguments = {"kernel_size": wide, "padding": 3, "rank": 3, "implementation": "fft", **changes}
    generator = torch.Generator().manual_seed(order)
    return FactorizedConv(6, 4, **arguments, generator=generator)


def image(layer: FactorizedConv, batch: int = 2) -> torch.Tensor:
    size = tuple(reach + 5 for reach in layer.config.geometry.reach)
    generator = torch.Generator().manual_seed(9)
    return torch.randn(batch, 6, *size, generator=generator)


@pytest.mark.parametrize("factorization", factorizations.names())
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
    "changes", [{}, {"stride": 2, "dilation": 2, "groups": 2}], ids=["plain", "strided, in groups"]
)
def test_a_large_kernel_equals_the_dense_one_in_float32(factorization, order, changes):
    layer = large(order, factorization=factorization, **changes)
    x = image(layer).requires_grad_()
    inputs = [x, *layer.parameters()]
    y = layer(x)
    other = FactorizedConv.from_factorization(
        layer.weight,
        implementation="reconstructed",
        bias=layer.bias,
        **{name: getattr(layer.config, name) for name in ("stride", "padding", "dilation")},
    )
    dense = other(x)
    assert y.shape == dense.shape
    assert relative_error(dense, y) < 1e-5
    towards = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
    mine = torch.autograd.grad((y * towards).sum(), inputs)
    theirs = torch.autograd.grad((dense * towards).sum(), [x, other.bias, *layer.weight.factors])
    for one, another in zip(mine, theirs, strict=True):
        assert relative_error(another, one) < 1e-4


@settings(max_examples=60, deadline=None)
@given(asked=requests((1, 2, 3), transposed=False), name=st.sampled_from(factorizations.names()))
def test_it_equals_the_dense_one_over_the_whole_surface(asked, name):
    assume(max(asked.arguments["kernel_size"]) > 1)
    layer = asked.layer(factorization=name, implementation="fft", dtype=torch.float64)
    x = asked.input()
    assert relative_error(asked.dense(x, layer.weight.to_tensor(), layer.bias), layer(x)) < 1e-12


def test_a_depthwise_kernel_is_as_wide_as_the_image():
    layer = FactorizedConv(8, 8, (31, 31), padding="same", groups=8, implementation="fft", rank=2)
    x = torch.randn(1, 8, 31, 31)
    assert relative_error(layer.to_conv()(x), layer(x)) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_goes_in_and_out(dtype):
    layer, x = large(2), image(large(2))
    made = copy.deepcopy(layer).to(dtype)(x.to(dtype))
    assert made.dtype == dtype
    assert relative_error(layer(x), made.float()) < 0.02


def test_an_empty_batch_gives_an_empty_batch():
    layer = large(2)
    assert layer(image(layer, 0)).shape == (0, 4, 12, 12)


@pytest.mark.skipif(TORCH < (2, 7), reason="torch.export has no Fourier transform before 2.7")
def test_exported_it_takes_any_batch_and_height():
    layer = large(2)
    dims = {0: torch.export.Dim("batch", min=1, max=64), 2: torch.export.Dim("height", min=15)}
    program = torch.export.export(layer, (image(layer),), dynamic_shapes=(dims,))
    x = torch.cat([image(layer), image(layer)], dim=2)[:1]
    assert relative_error(layer(x), program.module()(x)) < 1e-5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"kernel_size": ()}, "it has orders 1 to 3, and this is order 0"),
        ({"kernel_size": (3, 3, 3, 3)}, "it has orders 1 to 3, and this is order 4"),
        ({"kernel_size": (9, 9), "transposed": True}, "it has no transposed convolutions"),
        ({"kernel_size": (1, 1)}, "a kernel of one tap has nothing to transform"),
    ],
    ids=["order 0", "order 4", "transposed", "1×1"],
)
def test_where_it_does_not_apply_it_says_why_and_what_to_use(arguments, reason):
    with pytest.raises(ValueError, match=f"'fft' cannot run .*{reason}.* use implementation='fact"):
        FactorizedConv(4, 4, **arguments, implementation="fft")


def test_an_input_below_the_kernel_is_refused_with_the_remedy():
    message = (
        r"input of spatial size \(14, 46\), with its padding, is smaller than the kernel's reach"
    )
    with pytest.raises(ValueError, match=message):
        large(2)(torch.randn(1, 6, 8, 40))
