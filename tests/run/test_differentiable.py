"""Where gradients are needed, inputs after the first of a kind go a quicker way to the same end."""

import pytest
import torch
from hypothesis import given, settings
from torch.nn.utils import parametrize

from tenfold import FactorizedConv, relative_error
from tenfold.layer import forward as forward_of_a_layer
from tenfold.testing import dense_convolution, requests


def make(factorization="tucker", **more):
    generator = torch.Generator().manual_seed(0)
    options = {"padding": 1, "rank": 6, "factorization": factorization, **more}
    return FactorizedConv(8, 8, (3, 3), **options, generator=generator)


def make_input(channels_last=False):
    x = torch.randn(2, 8, 7, 6, generator=torch.Generator().manual_seed(1))
    return x.to(memory_format=torch.channels_last) if channels_last else x


def dense(layer, x):
    return dense_convolution(x, layer.weight.to_tensor(), layer.bias, padding=(1, 1))


def outcome(run, layer, x):
    """The output, and the gradients of its sum of squares."""
    wanted = [x.clone().requires_grad_(), *layer.parameters()]
    y = run(wanted[0])
    return [y, *torch.autograd.grad(y.square().sum(), wanted)]


def assert_dense(layer, x):
    for found, right in zip(
        outcome(layer, layer, x), outcome(lambda x: dense(layer, x), layer, x), strict=True
    ):
        assert relative_error(right, found) < 1e-4


@pytest.fixture
def checked(monkeypatch):
    """The inputs that went the long way, which begins with a check."""
    seen = []
    check = forward_of_a_layer.check_input
    monkeypatch.setattr(
        forward_of_a_layer, "check_input", lambda x, *rest: seen.append(x) or check(x, *rest)
    )
    return seen


@settings(max_examples=10, deadline=None)
@given(asked=requests())
def test_the_second_call_is_the_first_in_values_and_gradients(pair, asked):
    layer = asked.layer(**pair).double()
    x = asked.input()
    for training in (True, False):
        layer.train(training)
        first, second = (outcome(layer, layer, x) for _ in range(2))
        assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("implementation", ["factorized", "reconstructed"])
@pytest.mark.parametrize("factorization", ["tucker", "cp", "tt", "spatial_svd"])
def test_a_kind_of_input_is_checked_once(
    factorization, implementation, channels_last, training, checked
):
    layer = make(factorization, implementation=implementation).train(training)
    x = make_input(channels_last)
    for _ in range(3):
        assert_dense(layer, x)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(1.1)
    assert len(checked) == 1
    layer(x[:1])
    assert len(checked) == 2


def double(layer):
    layer.double()


def drop_the_bias(layer):
    layer.register_parameter("bias", None)


def parametrize_a_factor(layer):
    class Halved(torch.nn.Module):
        def forward(self, factor):
            return factor / 2

    parametrize.register_parametrization(layer.weight.factors, "1", Halved())


CHANGES = [double, drop_the_bias, parametrize_a_factor]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_layer_gives_what_it_is_now(change):
    layer, x = make(), make_input()
    assert_dense(layer, x)
    change(layer)
    x = x.to(layer.weight.dtype)
    assert_dense(layer, x)
    assert_dense(layer, x)


def test_a_dtype_that_no_longer_fits_is_refused():
    layer, x = make(), make_input()
    layer(x)
    layer.double()
    with pytest.raises(TypeError, match="must have the layer's"):
        layer(x)
