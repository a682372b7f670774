"""The spectral initialisation: the balanced decomposition of a kernel that torch.nn draws."""

import copy
import pickle

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, relative_error
from tenfold.layer import evened
from tenfold.network import KernelNetwork

OF_ANY = ("cp", "tucker", "tt", "spatial_svd", "channel_svd", "tucker+depthwise_separable")


@pytest.mark.parametrize("factorization", ["tucker", "tt", "spatial_svd"])
@pytest.mark.parametrize("groups", [1, 2])
def test_at_exact_ranks_it_is_the_kernel_that_nn_draws(factorization, groups):
    torch.manual_seed(3)
    dense = nn.Conv2d(8, 6, 3, groups=groups)
    torch.manual_seed(3)
    layer = FactorizedConv(
        8, 6, (3, 3), groups=groups, rank=10**9, factorization=factorization, init="spectral"
    )
    assert relative_error(dense.weight.detach(), layer.weight.to_tensor()) < 1e-5


def test_it_is_the_nearest_kernel_of_its_rank():
    torch.manual_seed(3)
    dense = nn.Conv2d(8, 6, 3).weight.detach().flatten(1)
    torch.manual_seed(3)
    layer = FactorizedConv(8, 6, (3, 3), rank=2, factorization="channel_svd", init="spectral")
    lost = torch.linalg.svdvals(dense)[2:].square().sum().sqrt() / dense.norm()
    error = relative_error(dense, layer.weight.to_tensor().flatten(1))
    assert error == pytest.approx(float(lost), rel=1e-4)


def test_the_two_factors_of_a_bond_are_balanced():
    layer = FactorizedConv(8, 6, (3, 3), rank=4, factorization="spatial_svd", init="spectral")
    (first, last), bond = layer.weight.factors, layer.weight.network.bonds[0]
    grams = []
    for factor, modes in zip((first, last), layer.weight.network.factors, strict=True):
        rows = factor.detach().movedim(modes.index(bond), -1).flatten(0, -2)
        grams.append(rows.T @ rows)
    assert torch.allclose(*grams, atol=1e-6)
    assert torch.allclose(grams[0], torch.diag(grams[0].diag()), atol=1e-6)


def test_balancing_leaves_the_kernel_of_every_term():
    layer = FactorizedConv(8, 6, (3, 3), rank=2, factorization="tucker+depthwise_separable")
    network = layer.weight.network
    even = evened(network, [one.detach() for one in layer.weight.factors])
    assert isinstance(network, KernelNetwork)
    assert relative_error(layer.weight.to_tensor(), network.to_tensor(even)) < 1e-6


@pytest.mark.parametrize("factorization", OF_ANY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_it_has_the_shapes_and_the_dtype_of_a_drawn_one(factorization, dtype):
    made = [
        FactorizedConv(4, 6, (3, 3), rank=0.5, factorization=factorization, init=init, dtype=dtype)
        for init in ("variance", "spectral")
    ]
    shapes = [[(p.shape, p.dtype) for p in layer.parameters()] for layer in made]
    assert shapes[0] == shapes[1]
    assert all(bool(torch.isfinite(p).all()) for p in made[1].parameters())


def test_a_seed_or_a_generator_gives_the_same_numbers():
    options = {"rank": 2, "factorization": "cp", "init": "spectral"}
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    one, other = (FactorizedConv(4, 6, (3, 3), generator=g, **options) for g in generators)
    torch.manual_seed(5)
    first = FactorizedConv(4, 6, (3, 3), **options)
    torch.manual_seed(5)
    second = FactorizedConv(4, 6, (3, 3), **options)
    for these in ((one, other), (first, second)):
        states = [layer.state_dict().values() for layer in these]
        assert all(map(torch.equal, *states))
    assert not torch.equal(one.weight.to_tensor(), first.weight.to_tensor() + 1)


def test_a_layer_drawn_anew_is_drawn_as_it_was_asked_for():
    layer = nn.utils.skip_init(
        FactorizedConv, 8, 6, (3, 3), rank=10**9, init="spectral", factorization="tt"
    )
    for one in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.manual_seed(3)
        one.reset_parameters()
        torch.manual_seed(3)
        dense = nn.Conv2d(8, 6, 3)
        assert relative_error(dense.weight.detach(), one.weight.to_tensor()) < 1e-5
        assert torch.equal(dense.bias, one.bias)


def test_on_meta_nothing_is_drawn():
    layer = FactorizedConv(8, 6, (3, 3), rank=2, init="spectral", device="meta")
    assert layer.weight.factors[0].is_meta


@pytest.mark.parametrize("init", ["orthogonal", None, 3])
def test_another_initialisation_is_refused(init):
    with pytest.raises(ValueError, match=r"init=.* must be one of variance, spectral"):
        FactorizedConv(8, 6, (3, 3), init=init)
