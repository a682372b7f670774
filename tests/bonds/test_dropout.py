"""Tensor dropout: unbiased, active only in training, attached and removed without a trace."""

from itertools import product

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, FactorizedKernel, factorizations, relative_error
from tenfold.bonds import remove_tensor_dropout, tensor_dropout, tensor_lasso

FORMATS = [*factorizations.names(), "tucker+depthwise_separable"]


def layer_of(factorization, rank=2, **options):
    torch.manual_seed(0)
    return FactorizedConv(4, 6, 3, order=2, rank=rank, factorization=factorization, **options)


@pytest.mark.parametrize("factorization", FORMATS)
@pytest.mark.parametrize("rank", [1, 2])
def test_the_mean_over_all_masks_is_the_kernel(factorization, rank, monkeypatch):
    kernel = layer_of(factorization, rank, dtype=torch.float64).weight
    whole = kernel.to_tensor().detach()
    tensor_dropout(kernel, p=0.5)
    sizes = []

    def bernoulli(size):
        sizes.append(size)
        return torch.ones(size)

    masked(monkeypatch, bernoulli)
    kernel.to_tensor()
    count = sum(sizes)
    if count > 10:
        pytest.skip("too many masks to try all")
    total = torch.zeros_like(whole)
    for bits in product([0.0, 1.0], repeat=count):
        left = iter(bits)
        masked(monkeypatch, lambda size, left=left: torch.tensor([next(left) for _ in range(size)]))
        total += kernel.to_tensor().detach()
    assert relative_error(whole, total / 2**count) < 1e-12


def masked(monkeypatch, bernoulli):
    """Let dropout's masks be those of a function of their size."""
    monkeypatch.setattr(torch.Tensor, "bernoulli_", lambda self, p: bernoulli(len(self)).to(self))


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt"])
def test_it_drops_as_often_as_asked(factorization):
    kernel = layer_of(factorization, rank=2).weight
    tensor_dropout(kernel, p=0.25)
    torch.manual_seed(0)
    whole = [kernel.to_tensor().detach() for _ in range(4000)]
    remove_tensor_dropout(kernel)
    assert relative_error(kernel.to_tensor(), torch.stack(whole).mean(0)) < 0.1


@pytest.mark.parametrize("factorization", FORMATS)
def test_it_leaves_no_trace(factorization):
    layer = layer_of(factorization)
    before, kept = list(layer.state_dict()), list(layer.parameters())
    kind, x = type(layer.weight.factors), torch.randn(1, 4, 6, 6)
    random = torch.get_rng_state()
    with torch.no_grad():
        y = layer.eval()(x)
        tensor_dropout(layer, p=0.5)
        assert torch.equal(random, torch.get_rng_state())
        assert relative_error(y, layer(x)) < 1e-6
        remove_tensor_dropout(layer)
    assert list(layer.state_dict()) == before
    assert all(a is b for a, b in zip(layer.parameters(), kept, strict=True))
    assert type(layer.weight.factors) is kind
    with torch.no_grad():
        layer(x)
    assert layer.eval_cache._kept is not None


def test_it_is_active_in_training_alone():
    layer = tensor_dropout(layer_of("cp", rank=8), p=0.5)
    x = torch.randn(1, 4, 6, 6)
    assert not torch.equal(layer(x), layer(x))
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    assert not torch.equal(layer.train()(x), layer(x))


def test_all_layers_of_a_network_take_part():
    network = nn.Sequential(layer_of("cp"), nn.ReLU(), FactorizedConv(6, 2, 1, order=2, rank=2))
    tensor_dropout(network, p=0.3)
    with pytest.raises(ValueError, match="already"):
        tensor_dropout(network)
    assert remove_tensor_dropout(network) is network
    tensor_dropout(network)


def test_gates_stay_when_dropout_goes():
    layer = layer_of("tucker")
    names = list(layer.state_dict())
    lasso = tensor_lasso(layer)
    gated = list(layer.state_dict())
    remove_tensor_dropout(tensor_dropout(layer))
    assert list(layer.state_dict()) == gated
    lasso.remove()
    assert list(layer.state_dict()) == names


def test_numbers_are_drawn_anew_under_it():
    layer = tensor_dropout(layer_of("cp"))
    before = layer.weight.to_tensor().detach()
    layer.reset_parameters()
    assert relative_error(before, remove_tensor_dropout(layer).weight.to_tensor()) > 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64])
def test_the_dtype_stays(dtype):
    kernel = FactorizedKernel.new((6, 4, 3), rank=2, dtype=dtype)
    assert tensor_dropout(kernel).to_tensor().dtype == dtype


@pytest.mark.parametrize("p", [1, -0.1, True, "half"])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="from 0 to below 1"):
        tensor_dropout(layer_of("cp"), p=p)


def test_a_module_without_factors_is_refused():
    with pytest.raises(ValueError, match="no factorized kernel"):
        tensor_dropout(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"nn\.Module"):
        tensor_dropout(2)
