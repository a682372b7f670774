"""`from_conv`: a trained layer becomes a factorized one, whole, and is left as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from tenfold import FactorizedConv, relative_error

FULL = 10**9  # clipped to what is exact
SOURCES = {  # how it is made, and the size of an input
    "Linear": (lambda **m: nn.Linear(5, 7, **m), ()),
    "Linear, no bias": (lambda **m: nn.Linear(5, 3, bias=False, **m), ()),
    "Conv1d": (lambda **m: nn.Conv1d(3, 5, 4, stride=3, padding=2, dilation=2, **m), (11,)),
    "Conv1d, depthwise": (lambda **m: nn.Conv1d(4, 8, 3, groups=4, padding="same", **m), (9,)),
    "Conv1d, circular": (lambda **m: nn.Conv1d(3, 2, 3, 1, 2, padding_mode="circular", **m), (5,)),
    "Conv2d": (
        lambda **m: nn.Conv2d(6, 4, (3, 2), (2, 1), (1, 2), (1, 3), groups=2, **m),
        (7, 8),
    ),
    "Conv2d, no bias": (
        lambda **m: nn.Conv2d(3, 5, (1, 4), stride=(1, 2), bias=False, **m),
        (3, 9),
    ),
    "Conv2d, depthwise": (lambda **m: nn.Conv2d(4, 4, 3, groups=4, padding=1, **m), (5, 6)),
    "Conv2d, same and even": (lambda **m: nn.Conv2d(3, 4, (4, 2), padding="same", **m), (6, 5)),
    "Conv2d, valid": (lambda **m: nn.Conv2d(3, 4, 2, padding="valid", **m), (4, 5)),
    "Conv2d, reflect": (
        lambda **m: nn.Conv2d(3, 4, (3, 2), (2, 1), (1, 2), padding_mode="reflect", **m),
        (6, 5),
    ),
    "Conv2d, replicate and same": (
        lambda **m: nn.Conv2d(3, 4, (3, 2), padding="same", padding_mode="replicate", **m),
        (5, 4),
    ),
    "Conv3d": (
        lambda **m: nn.Conv3d(2, 4, (2, 1, 3), (1, 2, 1), (0, 1, 2), groups=2, **m),
        (4, 3, 4),
    ),
    "ConvTranspose1d": (lambda **m: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, **m), (6,)),
    "ConvTranspose2d": (
        lambda **m: nn.ConvTranspose2d(6, 4, (3, 2), (2, 3), (1, 0), (1, 2), 2, True, (1, 2), **m),
        (4, 5),
    ),
    "ConvTranspose3d": (
        lambda **m: nn.ConvTranspose3d(2, 3, (1, 3, 2), (1, 2, 1), (0, 1, 1), bias=False, **m),
        (3, 3, 4),
    ),
}
each_source = pytest.mark.parametrize("name", SOURCES)
even_same = pytest.mark.filterwarnings("ignore:Using padding='same' with even")


def make(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        source = SOURCES[name][0](dtype=dtype)
        channels = getattr(source, "in_channels", getattr(source, "in_features", None))
        return source, torch.randn(2, channels, *SOURCES[name][1], dtype=dtype)


@even_same
@each_source
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_at_full_rank_it_computes_what_the_source_does(pair, name, dtype, most):
    source, x = make(name, dtype)
    layer = FactorizedConv.from_conv(source, rank=FULL, **pair)
    assert layer(x).shape == source(x).shape
    assert relative_error(source(x), layer(x)) < most


@each_source
def test_every_attribute_of_the_source_is_kept(pair, name):
    source, _ = make(name)
    plain = FactorizedConv.from_conv(source, rank=2, **pair).to_conv()
    assert type(plain) is type(source)
    assert plain.extra_repr() == source.extra_repr()
    assert {n: p.dtype for n, p in plain.named_parameters()} == {
        n: p.dtype for n, p in source.named_parameters()
    }


@each_source
def test_the_source_is_untouched_even_by_training_the_copy(factorization, name):
    source, x = make(name)
    before, settings = copy.deepcopy(source.state_dict()), copy.copy(vars(source))
    layer = FactorizedConv.from_conv(source, rank=3, factorization=factorization)
    if source.bias is not None:
        assert torch.equal(layer.bias, source.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(x).square().sum().backward()
    optimizer.step()
    assert vars(source) == settings
    assert all(parameter.grad is None for parameter in source.parameters())
    assert all(torch.equal(value, before[key]) for key, value in source.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize("bias", [True, False, None])
def test_training_mode_and_requires_grad_are_kept(pair, training, weight, bias):
    source = nn.Conv2d(3, 4, 2, bias=bias is not None).train(training)
    source.weight.requires_grad_(weight)
    if bias is not None:
        source.bias.requires_grad_(bias)
    layer = FactorizedConv.from_conv(source, rank=2, **pair)
    assert {module.training for module in layer.modules()} == {training}
    assert {factor.requires_grad for factor in layer.weight.factors} == {weight}
    assert (None if layer.bias is None else layer.bias.requires_grad) is bias


@pytest.mark.parametrize("make_source", [nn.Conv2d, nn.ConvTranspose2d, nn.Conv3d])
def test_a_channels_last_source_gives_channels_last_outputs(pair, make_source):
    layout = torch.channels_last_3d if make_source is nn.Conv3d else torch.channels_last
    source = make_source(4, 6, 3, padding=1).to(memory_format=layout)
    layer = FactorizedConv.from_conv(source, rank=3, **pair)
    x = torch.randn(2, 4, *(5, 6, 7)[: len(source.kernel_size)])
    assert source(x).is_contiguous(memory_format=layout)
    assert layer(x).is_contiguous(memory_format=layout)
    assert layer.to_conv().weight.is_contiguous(memory_format=layout)


@each_source
def test_without_decomposition_the_kernel_is_drawn_afresh_with_nn_s_variance(factorization, name):
    source, _ = make(name)
    drawn = [
        FactorizedConv.from_conv(
            source, rank=2, factorization=factorization, decompose_weights=False
        )
        for _ in range(2)
    ]
    first, second = (layer.weight.to_tensor().detach() for layer in drawn)
    assert not torch.equal(first, second)
    fan_in = source.weight[0].numel()  # as nn.init has it, of a transposed kernel too
    assert 0.7 < float(first.square().mean()) * 3 * fan_in < 1.4
    if source.bias is not None:
        assert torch.equal(drawn[0].bias, source.bias)


@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 5e-2), (torch.float16, 1e-2)])
@pytest.mark.parametrize("name", ["Linear", "Conv2d", "ConvTranspose2d", "Conv3d"])
def test_kernels_in_half_precision_convert_to_their_own_dtype(pair, name, dtype, most):
    source, x = make(name, dtype)
    layer = FactorizedConv.from_conv(source, rank=FULL, **pair)
    assert {parameter.dtype for parameter in layer.parameters()} == {dtype}
    assert relative_error(source.double()(x.double()), layer.double()(x.double())) < most


@each_source
@pytest.mark.parametrize("rank", ["same", 0.4, 3])
def test_a_checkpoint_loads_into_a_layer_built_with_the_realised_rank(pair, name, rank):
    source, x = make(name)
    layer = FactorizedConv.from_conv(source, rank=rank, **pair)
    options = layer.config.model_dump(exclude={"order"})
    built = FactorizedConv(**options, rank=layer.rank, **pair, dtype=torch.float64)
    built.load_state_dict(layer.state_dict())
    assert relative_error(layer(x), built(x)) < 1e-12


def test_torch_s_seed_or_a_generator_decides_and_nothing_else_is_drawn_from(factorization):
    source, others = nn.Conv2d(6, 8, 3), np.random.get_state()

    def factors(seed: int | None = None) -> list[torch.Tensor]:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        request = {"rank": 5, "factorization": factorization, "generator": generator}
        decomposed = FactorizedConv.from_conv(source, **request)
        drawn = FactorizedConv.from_conv(source, decompose_weights=False, **request)
        return [*decomposed.weight.factors, *drawn.weight.factors]

    def same(some: list[torch.Tensor], more: list[torch.Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(some, more, strict=True))

    torch.manual_seed(5)
    first = factors()
    torch.manual_seed(5)
    assert same(first, factors())
    state = torch.get_rng_state()
    assert same(factors(7), factors(7))
    assert not same(factors(7), factors(8))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(a, b) for a, b in zip(others, np.random.get_state(), strict=True))


@pytest.mark.parametrize(
    "parametrize", [parametrizations.weight_norm, parametrizations.spectral_norm]
)
def test_a_parametrized_source_converts_by_its_effective_weight(pair, parametrize):
    source = parametrize(nn.Conv2d(4, 6, 3, padding=1)).eval()
    x = torch.randn(2, 4, 5, 5)
    layer = FactorizedConv.from_conv(source, rank=FULL, **pair)
    assert relative_error(source(x), layer(x)) < 1e-5
    assert {factor.requires_grad for factor in layer.weight.factors} == {True}


def both_masked(source):
    prune.random_unstructured(source, "bias", 0.5)
    return prune.l1_unstructured(prune.random_unstructured(source, "weight", 0.3), "weight", 0.3)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make_weight", [weight_norm, spectral_norm, both_masked])
def test_a_weight_that_hooks_make_is_that_of_the_next_call(make_weight, training):
    torch.manual_seed(0)
    other, source = (make_weight(nn.Conv2d(4, 6, 3, padding=1)).train(training) for _ in range(2))
    source.load_state_dict(other.state_dict())  # and is not yet run
    before, x = copy.deepcopy(source.state_dict()), torch.randn(2, 4, 5, 5)
    layer = FactorizedConv.from_conv(source, rank=FULL, factorization="tt")
    assert all(torch.equal(value, before[key]) for key, value in source.state_dict().items())
    torch.testing.assert_close(layer(x), source(x), rtol=1e-4, atol=1e-5)
    assert {factor.requires_grad for factor in layer.weight.factors} == {True}
    assert not layer._forward_pre_hooks


def test_hooks_are_kept():
    source, seen = nn.Conv2d(4, 6, 3), []
    source.register_forward_pre_hook(lambda _, given: (given[0] + 1,))
    source.register_forward_hook(lambda _, given, options, y: y.relu(), with_kwargs=True)
    source.register_full_backward_hook(lambda *_: seen.append(True))
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    layer = FactorizedConv.from_conv(source, rank=FULL, factorization="tt")
    torch.testing.assert_close(layer(x), source(x), rtol=1e-4, atol=1e-5)
    layer(x).sum().backward()
    assert seen == [True]
    layer.register_forward_hook(lambda *_: None)
    assert len(source._forward_hooks) == 1


def test_gradients_of_a_batch_of_no_items_are_zeros(pair):
    layer = FactorizedConv(4, 6, (3, 3), rank=2, **pair)
    x = torch.empty(0, 4, 5, 5, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == x.shape
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())
