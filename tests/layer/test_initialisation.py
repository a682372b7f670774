"""A fresh layer starts as torch.nn's own does."""

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, FactorizedKernel

PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (None, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
DRAWS = 10


def shapes_of(order: int, transposed: bool, groups: int) -> tuple[dict, nn.Module]:
    """The arguments of a layer, and torch.nn's module of them."""
    arguments = {"groups": groups} if order else {}
    sizes = (24, 36, (3, 2, 5)[:order])
    make = (TRANSPOSED if transposed else PLAIN)[order]
    dense = make(*(sizes if order else sizes[:2]), **arguments)
    more = {"transposed": transposed, **arguments}
    return dict(
        zip(("in_channels", "out_channels", "kernel_size"), sizes, strict=True)
    ) | more, dense


cases = pytest.mark.parametrize(
    ("order", "transposed", "groups"),
    [
        (0, False, 1),
        *((order, up, g) for order in (1, 2, 3) for up in (False, True) for g in (1, 3)),
    ],
)


@cases
@pytest.mark.parametrize("rank", [0.1, "same", 2])
def test_a_fresh_kernel_has_the_variance_of_nn_s_own(
    factorization, order, transposed, groups, rank
):
    arguments, dense = shapes_of(order, transposed, groups)
    mine, theirs = [], []
    for _ in range(DRAWS):
        layer = FactorizedConv(**arguments, rank=rank, factorization=factorization)
        dense.reset_parameters()
        mine.append(layer.weight.to_tensor().detach().var())
        theirs.append(dense.weight.detach().var())
    ratios = torch.stack(mine) / torch.stack(theirs).mean()
    assert float(ratios.min()) > 0.7
    assert float(ratios.max()) < 1.4


@cases
def test_a_fresh_bias_is_drawn_from_the_range_of_nn_s_own(order, transposed, groups):
    arguments, dense = shapes_of(order, transposed, groups)
    largest = torch.tensor(0.0)
    bound = dense.weight[0].numel() ** -0.5  # as nn.init has the fan-in, of a transposed kernel too
    theirs = torch.tensor(0.0)
    for _ in range(DRAWS):
        dense.reset_parameters()
        largest = torch.maximum(largest, FactorizedConv(**arguments).bias.detach().abs().max())
        theirs = torch.maximum(theirs, dense.bias.detach().abs().max())
    for most in (largest, theirs):
        assert 0.9 * bound < float(most) <= bound


def test_the_factors_have_equal_norms(factorization):
    layer = FactorizedConv(24, 36, (3, 5), factorization=factorization, rank=0.3)
    norms = torch.stack([factor.detach().norm() for factor in layer.weight.factors])
    assert float(norms.max() / norms.min()) < 1 + 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_variance_holds_in_every_dtype(factorization, dtype):
    layer = FactorizedConv(32, 32, (3, 3), factorization=factorization, dtype=dtype)
    ratio = float(layer.weight.to_tensor().detach().double().square().mean()) * 3 * 32 * 9
    assert 0.7 < ratio < 1.4


def test_torch_s_seed_decides_the_numbers(factorization):
    layers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        layers.append(FactorizedConv(4, 6, (3, 3), factorization=factorization))
    values = [torch.cat([p.detach().flatten() for p in layer.parameters()]) for layer in layers]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


@pytest.mark.parametrize("make", [FactorizedConv, FactorizedKernel.new])
def test_a_generator_decides_the_numbers_and_torch_s_own_is_left_alone(factorization, make):
    sizes = (4, 6, (3, 3)) if make is FactorizedConv else ((6, 4, 3, 3),)
    before = torch.get_rng_state()
    made = [
        make(*sizes, factorization=factorization, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    values = [torch.cat([p.detach().flatten() for p in one.parameters()]) for one in made]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_reset_parameters_draws_anew_and_keeps_the_parameters(factorization):
    layer = FactorizedConv(4, 6, (3, 3), factorization=factorization)
    held = dict(layer.named_parameters())
    before = {name: parameter.detach().clone() for name, parameter in held.items()}
    layer.reset_parameters()
    for name, parameter in layer.named_parameters():
        assert parameter is held[name]
        assert not torch.equal(parameter, before[name])
