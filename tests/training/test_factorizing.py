"""A low-rank copy of a network."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from tenfold import Error, FactorizedConv, factorize, relative_error


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 10),
    )


def kinds(model: nn.Module) -> list[str]:
    return [type(one).__name__ for one in model.children()]


def test_it_starts_from_the_weights_that_the_model_has():
    model = small()
    with torch.no_grad():  # a kernel of rank 2
        model[3].weight.copy_((torch.randn(12, 2) @ torch.randn(2, 72)).reshape(12, 8, 3, 3))
    made = factorize(model, rank=2, factorization="channel_svd", include=["3"])
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(made(x), model(x), atol=1e-4)


def test_it_draws_anew_where_that_is_asked():
    model = small()
    made = factorize(model, rank=0.5, include=["3"], init="variance")
    assert relative_error(model[3].weight.detach(), made[3].weight.to_tensor()) > 0.9


def test_the_model_stays_as_it_was_and_its_copy_is_its_own():
    model = small()
    before = copy.deepcopy(model.state_dict())
    made = factorize(model, rank=0.5, exclude=["0"])
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    assert kinds(model) == kinds(small())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "factorized"),
    [
        ({}, [0, 3, 6]),
        ({"exclude": ["0", nn.Linear]}, [3]),
        ({"include": [nn.Conv2d]}, [0, 3]),
        ({"include": [lambda name, module: name == "6"]}, [6]),
    ],
)
def test_it_takes_the_layers_that_are_asked_for(options, factorized):
    made = factorize(small(), rank=1, **options)
    found = [i for i, one in enumerate(made) if isinstance(one, FactorizedConv)]
    assert found == factorized


@pytest.mark.parametrize("init", ["variance", "spectral"])
@pytest.mark.parametrize("factorization", ["tucker", "tt"])
def test_a_checkpoint_loads_into_the_copy_of_other_numbers(init, factorization):
    models = small(), small()
    with torch.no_grad():
        models[1][3].weight[:, 1:] = 0  # whose spectrum asks for other ranks
    options = {"rank": 0.4, "factorization": factorization, "init": init, "exclude": ["0"]}
    first, second = (factorize(model, **options) for model in models)
    second.load_state_dict(first.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(first.eval()(x), second.eval()(x))


def test_ranks_by_error_follow_the_weights():
    model = small()
    made = factorize(model, rank=Error(0.8), include=["3"], factorization="spatial_svd")
    assert relative_error(model[3].weight.detach(), made[3].weight.to_tensor()) <= 0.8


def test_a_layer_in_two_places_stays_one():
    shared = nn.Conv2d(8, 8, 3, padding=1)
    made = factorize(nn.Sequential(shared, nn.ReLU(), shared), rank=0.3)
    assert isinstance(made[0], FactorizedConv)
    assert made[0] is made[2]


def test_what_cannot_be_factorized_stays_dense():
    first, second = nn.Linear(16, 16), nn.Linear(16, 16)
    second.weight = first.weight
    model = nn.ModuleDict(
        {
            "tied": first,
            "with_it": second,
            "depthwise": nn.Conv2d(8, 8, 3, groups=8),
            "computed": weight_norm(nn.Linear(16, 16)),
            "complex": nn.Linear(16, 16, dtype=torch.complex64),
            "tiny": nn.Conv2d(1, 2, 1),
            "plain": nn.Linear(16, 16),
        }
    )
    made = factorize(model, rank=0.5, factorization="channel_svd")
    found = [name for name, one in made.items() if isinstance(one, FactorizedConv)]
    assert found == ["plain"]
    assert made["tied"].weight is made["with_it"].weight


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 0.0}, "layer '0': rank=0.0"),
        ({"rank": 2, "factorization": "tuker"}, "tucker"),
        ({"rank": 2, "implementation": "factorised"}, "factorized"),
        ({"rank": 2, "init": "svd"}, "init='svd' must be"),
        ({"rank": 2, "include": ["conv*"]}, "matches no layer of the model"),
        ({"rank": 2, "exclude": [nn.Conv2d, nn.Linear]}, "no layer"),
        ({"rank": 10**9}, "saves no parameters in any of 0, 3, 6"),
        ({"rank": 2, "include": "0"}, "include='0' must be a list"),
    ],
)
def test_a_bad_argument_is_refused(options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        factorize(small(), **options)


def test_weights_that_are_not_finite_are_refused():
    model = small()
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"NaN or infinite values in '0\.weight'"):
        factorize(model, rank=2)
