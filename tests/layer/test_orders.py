"""Orders that torch.nn does not have, 4 and 5, and a Tucker kernel with a rank for every mode."""

import pytest
import torch
from hypothesis import given, settings

from tenfold import FactorizedConv, relative_error
from tenfold.testing import Request, requests


def request(size, kernel_size, channels=(2, 3), **changes):
    """A convolution of any order; what is not said is as by default."""
    order = len(size)
    ones, zeros = (1,) * order, (0,) * order
    arguments = {
        "in_channels": channels[0],
        "out_channels": channels[1],
        "kernel_size": kernel_size,
        "stride": ones,
        "padding": zeros,
        "dilation": ones,
        "groups": 1,
        "bias": True,
        "padding_mode": "zeros",
        "transposed": False,
        "output_padding": zeros,
        "rank": 3,
    }
    return Request(arguments | changes, 2, size)


REQUESTS = {
    "order 4": request((4, 4, 5, 4), (3, 2, 3, 2)),
    "each axis its own": request(
        (6, 5, 4, 7),
        (3, 2, 1, 3),
        stride=(2, 1, 3, 1),
        padding=(1, 0, 2, 1),
        dilation=(1, 3, 1, 2),
    ),
    "1×1": request((3, 2, 3, 2), (1, 1, 1, 1)),
    "1×1 with strides": request((3, 4, 3, 4), (1, 1, 1, 1), stride=(2, 1, 3, 2)),
    "a pointwise leading axis": request((3, 4, 4, 3), (1, 2, 2, 3), padding=(0, 1, 0, 1)),
    "groups": request((3, 3, 3, 3), (2, 2, 2, 2), (4, 6), groups=2),
    "depthwise, no bias": request((3, 3, 3, 3), (2, 2, 2, 2), (3, 6), groups=3, bias=False),
    "same, even": request((4, 4, 3, 4), (2, 4, 3, 2), padding="same", dilation=(1, 1, 2, 2)),
    "valid": request((4, 4, 3, 4), (2, 3, 1, 2), padding="valid"),
    "reflect": request((3, 4, 3, 3), (3, 2, 2, 3), padding=(2, 1, 0, 1), padding_mode="reflect"),
    "replicate": request(
        (2, 3, 3, 2), (2, 2, 2, 3), padding=(2, 1, 0, 1), padding_mode="replicate"
    ),
    "circular": request((2, 3, 3, 2), (2, 2, 2, 3), padding=(2, 1, 0, 1), padding_mode="circular"),
    "circular, same": request((4, 3, 4, 3), (4, 2, 3, 3), padding="same", padding_mode="circular"),
    "transposed": request(
        (2, 3, 2, 2),
        (3, 2, 2, 3),
        (4, 6),
        transposed=True,
        groups=2,
        stride=(3, 1, 2, 2),
        padding=(1, 0, 1, 2),
        dilation=(1, 2, 1, 2),
        output_padding=(2, 1, 0, 1),
    ),
    "transposed 1×1": request(
        (2, 2, 2, 2),
        (1, 1, 1, 1),
        transposed=True,
        stride=(2, 1, 1, 2),
        output_padding=(1, 0, 0, 1),
    ),
    "order 5": request((3, 3, 4, 3, 3), (2, 2, 3, 2, 2), stride=(1, 2, 1, 1, 2)),
    "order 5, padded": request((2, 2, 3, 2, 2), (2, 3, 2, 3, 2), padding=(1, 1, 0, 2, 1)),
    "order 5, reflect, groups": request(
        (2, 3, 2, 3, 2),
        (2, 1, 2, 3, 2),
        (2, 4),
        groups=2,
        padding=(1, 2, 0, 1, 1),
        padding_mode="reflect",
    ),
    "order 5, transposed": request(
        (2, 1, 2, 2, 1),
        (2, 2, 1, 3, 2),
        transposed=True,
        stride=(1, 2, 2, 1, 1),
        padding=(0, 1, 0, 1, 0),
        output_padding=(0, 1, 1, 0, 0),
    ),
}


def assert_is_dense(layer: FactorizedConv, asked: Request) -> None:
    """The layer has the values and gradients of the dense convolution with its kernel."""
    x = asked.input().requires_grad_()
    inputs = [x, *layer.parameters()]
    y, dense = layer(x), asked.dense(x, layer.weight.to_tensor(), layer.bias)
    assert y.shape == dense.shape
    assert relative_error(dense, y) < 1e-10  # rounding, where a lone number is left of many
    towards = torch.ones_like(dense).cumsum(-1)
    mine = torch.autograd.grad((y * towards).sum(), inputs)
    theirs = torch.autograd.grad((dense * towards).sum(), inputs)
    for a, b in zip(mine, theirs, strict=True):
        assert relative_error(b, a) < 1e-10


@pytest.mark.parametrize("name", REQUESTS)
def test_orders_4_and_5_run_as_the_dense_convolution(pair, name):
    asked = REQUESTS[name]
    assert_is_dense(asked.layer(**pair, dtype=torch.float64), asked)


@settings(max_examples=20, deadline=None)
@given(asked=requests(orders=(4,)))
def test_any_convolution_of_order_4_runs_as_the_dense_one(pair, asked):
    assert_is_dense(asked.layer(**pair, dtype=torch.float64), asked)


@pytest.mark.parametrize("implementation", ["reconstructed", "factorized"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_tucker_kernel_with_a_rank_for_every_mode_runs_as_the_dense_one(
    order, transposed, implementation
):
    rank = (4, 3, 2, 2, 1, 2)[: order + 2]
    asked = request(
        (5, 4, 5, 4)[:order],
        (3, 2, 3, 2)[:order],
        (8, 10),
        groups=2,
        stride=(2, 1, 1, 2)[:order],
        padding=(1, 0, 1, 1)[:order],
        rank=rank,
        transposed=transposed,
    )
    names = {"factorization": "tucker", "implementation": implementation}
    layer = asked.layer(**names, dtype=torch.float64)
    assert layer.rank == rank
    assert len(layer.weight.factors) == order + 3
    assert_is_dense(layer, asked)


def test_mobilenet_of_order_4_looks_at_every_position_under_its_kernel():
    layer = FactorizedConv(2, 3, (3, 3, 3, 3), implementation="mobilenet", dtype=torch.float64)
    x = torch.randn(1, 2, 3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert y.shape == (1, 3, 1, 1, 1, 1)
    assert torch.autograd.grad(y.sum(), x)[0].count_nonzero() == x.numel()
