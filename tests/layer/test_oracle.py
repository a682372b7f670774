"""The dense oracle, which judges everything else, is itself judged by torch.nn."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tenfold import relative_error
from tenfold.testing import Request, dense_convolution, requests

PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
ONLY_PLAIN, ONLY_TRANSPOSED = ("padding_mode",), ("output_padding",)

even_same = pytest.mark.filterwarnings("ignore:Using padding='same' with even")


def torch_module(request: Request) -> nn.Module:
    """The module of torch.nn with the request's arguments, in float64."""
    given = dict(request.arguments)
    given.pop("rank")
    transposed = given.pop("transposed")
    for name in ONLY_PLAIN if transposed else ONLY_TRANSPOSED:
        given.pop(name)
    make = (TRANSPOSED if transposed else PLAIN)[len(request.size)]
    return make(**given, dtype=torch.float64)


def kernel_of(module: nn.Module) -> Tensor:
    """The module's weight as `(out, in/groups, *k)`, told by indices and no reshaping."""
    weight, groups = module.weight, module.groups
    if not module.transposed:
        return weight
    inner, outer = weight.shape[0] // groups, weight.shape[1]
    rows = [
        torch.stack([weight[group * inner + i, o] for i in range(inner)])
        for group in range(groups)
        for o in range(outer)
    ]
    return torch.stack(rows)


@even_same
@settings(max_examples=150, deadline=None)
@given(request=requests(orders=(1, 2, 3)))
def test_the_oracle_is_torch_nn_in_values_and_gradients(request):
    module, x = torch_module(request), request.input().requires_grad_()
    inputs = [x, *module.parameters()]
    theirs, mine = module(x), request.dense(x, kernel_of(module), module.bias)
    assert mine.shape == theirs.shape
    towards = torch.ones_like(theirs).cumsum(-1)
    pairs = [
        torch.autograd.grad((y * towards).sum(), inputs, retain_graph=True) for y in (mine, theirs)
    ]
    for a, b in [(mine, theirs), *zip(*pairs, strict=True)]:
        assert relative_error(b, a) < 1e-12


@even_same
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_same_padding_of_an_even_kernel_is_torch_nn_s(order, mode):
    arguments = {"kernel_size": (4, 2, 3)[:order], "dilation": (1, 3, 2)[:order], "groups": 2}
    arguments |= {"padding": "same", "padding_mode": mode, "in_channels": 4, "out_channels": 6}
    arguments |= {"stride": (1,) * order, "transposed": False, "output_padding": (), "rank": 1}
    request = Request(arguments, 2, (5, 6, 7)[:order])
    module, x = torch_module(request), request.input()
    assert relative_error(module(x), request.dense(x, module.weight, module.bias)) < 1e-12


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(0, 3), inner=st.integers(1, 4), outer=st.integers(1, 4))
def test_at_order_0_it_is_a_linear_layer(batch, inner, outer):
    x = torch.randn(batch, inner, dtype=torch.float64)
    module = nn.Linear(inner, outer, dtype=torch.float64)
    assert relative_error(module(x), dense_convolution(x, module.weight, module.bias)) < 1e-12


@pytest.mark.parametrize("transposed", [False, True])
def test_at_order_4_it_is_two_of_order_2_where_the_kernel_is_a_product(transposed):
    run = F.conv_transpose2d if transposed else F.conv2d
    generator = torch.Generator().manual_seed(0)
    x, first, last = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in [(2, 3, 5, 6, 5, 6), (3, 2, 2, 3), (2, 4, 3, 2)]  # (in, mid, …), (mid, out, …)
    )
    kernel = torch.einsum("imab,mocd->oiabcd", first, last)
    if not transposed:
        first, last = first.transpose(0, 1), last.transpose(0, 1)

    def beside(idle: tuple[int, int], x: Tensor, weight: Tensor, **options: object) -> Tensor:
        there = x.movedim(idle, (0, 1))
        y = run(there.flatten(0, 2), weight, **options).unflatten(0, there.shape[:3])
        return y.movedim((0, 1), idle)

    heads = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}
    tails = {"stride": (1, 3), "padding": (0, 1), "dilation": (2, 1)}
    y = beside((2, 3), beside((4, 5), x, first, **heads), last, **tails)
    both = {name: heads[name] + tails[name] for name in heads}
    dense = dense_convolution(x, kernel, transposed=transposed, **both)
    assert dense.shape == y.shape
    assert relative_error(y, dense) < 1e-12
