"""Ranks that change while a layer is trained, and what the optimizer remembers."""

import copy

import pytest
import torch
from torch import nn

from tenfold import (
    SOAP,
    Error,
    FactorizedConv,
    Fixed,
    RankSchedule,
    parameter_groups,
    relative_error,
    set_rank,
)
from tenfold.training.ranks import tangent_of
from tenfold.training.tangent import explained, spread

FORMATS = ("cp", "tucker", "tt", "spatial_svd", "channel_svd", "hadamard", "kronecker",
           "depthwise_separable", "block_term", "tucker+depthwise_separable")  # fmt: skip
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, amsgrad=True),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, momentum=0.9),
}
X = torch.randn(2, 4, 6, 6)


def layer(factorization="tucker", rank=0.4, **options) -> FactorizedConv:
    return FactorizedConv(4, 6, (3, 3), rank=rank, factorization=factorization, **options)


def train(model, optimizer, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        model(X.to(next(model.parameters()).dtype)).abs().square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("factorization", FORMATS)
@pytest.mark.parametrize("groups", [1, 2])
def test_growing_leaves_the_function_and_trains_every_new_number(factorization, groups):
    one = FactorizedConv(4, 12, 3, order=2, rank=1, groups=groups, factorization=factorization)
    size, y = one.double().weight.numel(), one(X.double())
    set_rank(one, 2)
    assert one.weight.numel() > size
    assert torch.allclose(one(X.double()), y)
    train(one, torch.optim.SGD(one.parameters(), lr=1e-3), 2)  # the second moves what fed on zeros
    again = copy.deepcopy(one)
    train(again, torch.optim.SGD(again.parameters(), lr=1e-3), 1)
    for factor, moved in zip(one.weight.factors, again.weight.factors, strict=True):
        assert not factor.requires_grad or bool((factor != moved).all())


@pytest.mark.parametrize("factorization", FORMATS)
def test_it_gives_the_ranks_of_a_new_layer(factorization):
    one = layer(factorization, rank=0.7)
    for rank in (0.3, 0.9, 2, "same"):
        set_rank(one, rank)
        assert one.rank == layer(factorization, rank=rank).rank
        one(X)


def test_truncating_is_optimal():
    one = layer("channel_svd", rank=6)
    whole = one.weight.to_tensor().detach().flatten(1)
    set_rank(one, 3)
    lost = torch.linalg.svdvals(whole)[3:].square().sum().sqrt() / whole.norm()
    error = relative_error(whole, one.weight.to_tensor().flatten(1))
    assert error == pytest.approx(float(lost), rel=1e-4)


def test_truncating_to_an_error_keeps_it():
    one = layer("spatial_svd", rank=9)
    whole = one.weight.to_tensor().detach()
    set_rank(one, Error(0.4))
    assert relative_error(whole, one.weight.to_tensor()) <= 0.4
    assert one.rank < 9


def test_bonds_may_shrink_and_grow_at_once():
    one = layer("tucker", rank=(2, 4))
    set_rank(one, (6, 3))
    assert one.rank == (6, 3)
    assert [tuple(factor.shape) for factor in one.weight.factors] == list(one.weight.network.shapes)


def test_from_bonds_of_channels_to_bonds_of_every_mode():
    one = layer("tucker", rank=(6, 4))
    whole = one.weight.to_tensor().detach()
    set_rank(one, (6, 4, 3, 3))
    assert relative_error(whole, one.weight.to_tensor()) < 1e-5


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("rank", [0.2, 0.9])
def test_the_optimizer_goes_on_with_the_new_factors(name, rank):
    model = nn.Sequential(layer(), nn.Conv2d(6, 2, 1))
    optimizer = OPTIMIZERS[name](parameter_groups(model, 1e-4))
    train(model, optimizer)
    set_rank(model[0], rank, optimizer)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert {id(p) for p in optimizer.state} == held
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            assert key == "step" or value.shape == parameter.shape
    train(model, optimizer)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_what_grows_keeps_its_moments():
    one = layer("tucker", rank=(3, 2))
    optimizer = torch.optim.Adam(one.parameters())
    train(one, optimizer)
    before = [optimizer.state[factor] for factor in one.weight.factors]
    set_rank(one, (4, 3), optimizer)
    for factor, state in zip(one.weight.factors, before, strict=True):
        now = optimizer.state[factor]
        inside = tuple(map(slice, state["exp_avg"].shape))
        outside = torch.ones_like(factor, dtype=torch.bool)
        outside[inside] = False
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(now[key][inside], state[key])
        assert bool((now["exp_avg"][outside] == 0).all())
        assert torch.allclose(now["exp_avg_sq"][outside], state["exp_avg_sq"].mean())
        assert now["step"] == 3


@pytest.mark.parametrize("factorization", FORMATS)
def test_a_momentum_follows_by_the_chain_rule(factorization):
    """After one step the momentum is the gradient; of a layer whose truncation loses nothing, it
    becomes the gradient of the new factors, as far as the old ones saw it."""
    small = layer(factorization, rank=0.3, bias=False).double()
    one = copy.deepcopy(small)
    set_rank(one, 0.8)
    optimizer = torch.optim.SGD(one.parameters(), lr=0.0, momentum=0.9)
    train(one, optimizer, 1)
    before = one.weight.to_tensor().detach()
    set_rank(one, small.rank, optimizer)
    if relative_error(before, one.weight.to_tensor()) > 1e-7:
        pytest.skip("alternating least squares ended before the exact kernel")
    one(X.double()).square().mean().backward()
    for factor in one.weight.parameters():
        kept = optimizer.state[factor]["momentum_buffer"]
        assert float((kept - factor.grad).norm() / factor.grad.norm()) < 0.02


@pytest.mark.parametrize("factorization", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_down_is_the_chain_rule_and_up_its_adjoint(factorization, dtype):
    kernel = layer(factorization, dtype=dtype).weight
    gradient = torch.randn(kernel.shape, dtype=dtype)
    tangent = tangent_of(kernel)
    down = tangent.down(gradient)
    factors = list(kernel.parameters())
    slopes = torch.autograd.grad((kernel.to_tensor() * gradient.conj()).sum().real, factors)
    assert all(map(torch.allclose, down, slopes))
    moves = [torch.randn_like(one) for one in down]
    once = (tangent.up(moves) * gradient.conj()).sum()
    twice = sum((move * one.conj()).sum() for move, one in zip(moves, down, strict=True))
    assert torch.allclose(once, twice)


@pytest.mark.parametrize("factorization", FORMATS)
def test_gradients_of_the_factors_are_explained_by_one_of_the_kernel(factorization):
    kernel = layer(factorization, dtype=torch.float64).weight
    tangent = tangent_of(kernel)
    gradient = torch.randn(kernel.shape, dtype=torch.float64)
    slopes = tangent.down(gradient)
    found = explained(tangent, slopes)
    for one, other in zip(tangent.down(found), slopes, strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-2
    assert float(found.norm()) <= float(gradient.norm()) * (1 + 1e-6)


@pytest.mark.parametrize("factorization", FORMATS)
def test_variances_of_the_factors_are_explained_by_positive_ones(factorization):
    squared = tangent_of(layer(factorization, dtype=torch.float64).weight).squared()
    wanted = squared.down(torch.rand(6, 4, 3, 3, dtype=torch.float64) ** 2)
    found = spread(squared, wanted)
    assert bool((found >= 0).all())
    for one, other in zip(squared.down(found), wanted, strict=True):
        assert float((one - other).norm() / other.norm()) < 0.15


def test_nothing_remembered_is_nothing_carried():
    one = layer()
    optimizer = torch.optim.Adam(one.parameters())
    set_rank(one, 0.2, optimizer)
    assert not optimizer.state
    train(one, optimizer)


def test_frozen_factors_stay_frozen_and_hooks_stay():
    one = layer("tucker")
    one.weight.factors[0].requires_grad_(False)
    called = []
    one.register_forward_hook(lambda *_: called.append(1))
    set_rank(one, 0.2)
    one(X)
    assert [p.requires_grad for p in one.weight.parameters()] == [False, True, True]
    assert called == [1]


def test_in_eval_the_new_kernel_is_used():
    one = layer().eval()
    with torch.no_grad():
        one(X)
        one(X)
        set_rank(one, 1)
        conv = one.to_conv()
        assert torch.allclose(one(X), conv(X), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "call", "said"),
    [
        (layer, {"rank": 0}, "rank=0"),
        (layer, {"rank": (1, 2, 3)}, r"rank=\(1, 2, 3\)"),
        (lambda: layer(device="meta"), {"rank": 2}, "meta device"),
        (lambda: nn.Conv2d(4, 6, 3), {"rank": 2}, "layer=Conv2d must be a FactorizedConv"),
        (layer, {"rank": 2, "optimizer": "adam"}, "optimizer=str must be a Optimizer"),
    ],
)
def test_a_bad_argument_is_refused(make, call, said):
    one = make()
    with pytest.raises((ValueError, TypeError), match=said):
        set_rank(one, **call)


def test_by_soap_new_factors_start_anew_and_others_go_on():
    model = nn.Sequential(layer(rank=0.9), nn.Conv2d(6, 2, 1))
    optimizer = SOAP(model.parameters(), lr=1e-3)
    train(model, optimizer)
    set_rank(model[0], 0.3, optimizer)
    factors = set(model[0].weight.parameters())
    assert set(optimizer.state) == set(model.parameters()) - factors
    train(model, optimizer, 2)
    assert {one: state["step"] for one, state in optimizer.state.items()} == {
        one: 2 if one in factors else 5 for one in model.parameters()
    }


def test_an_unknown_optimizer_is_refused_and_nothing_is_changed():
    one = layer()
    optimizer = torch.optim.Adagrad(one.parameters())
    train(one, optimizer)
    before = one.rank
    with pytest.raises(ValueError, match="optimizer=Adagrad keeps 'sum'"):
        set_rank(one, 0.2, optimizer)
    assert one.rank == before


def test_a_rank_that_the_implementation_cannot_run_changes_nothing():
    fixed = Fixed(((1,), (2,), (0,)))
    one = layer("tucker", rank=(3, 2), implementation=fixed)
    before = one.weight
    with pytest.raises(ValueError, match="partition"):
        set_rank(one, (3, 2, 2, 2))
    assert one.weight is before


def test_a_schedule_falls_to_its_end_and_stays():
    model = nn.Sequential(layer(rank=0.9), nn.ReLU(), nn.Conv2d(6, 2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    schedule = RankSchedule(model, optimizer, start=0.9, end=0.2, steps=4)
    sizes, budgets = [model[0].weight.numel()], [schedule.budget]
    for _ in range(5):
        train(model, optimizer, 1)
        schedule.step()
        sizes.append(model[0].weight.numel())
        budgets.append(schedule.budget)
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= most * 216 for size, most in zip(sizes, budgets, strict=True))
    assert budgets[4:] == [0.2, 0.2]
    assert budgets[1] < 0.9 - (0.9 - 0.2) / 2  # most of it early


def test_a_schedule_resumes_with_the_model_and_the_optimizer():
    def made():
        model = layer(rank=0.9)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        return model, optimizer, RankSchedule(model, optimizer, 0.9, 0.2, 4)

    model, optimizer, schedule = made()
    train(model, optimizer)
    schedule.step()
    train(model, optimizer)
    kept = copy.deepcopy([one.state_dict() for one in (schedule, model, optimizer)])
    train(model, optimizer)
    again = made()
    for one, state in zip((again[2], *again[:2]), kept, strict=True):
        one.load_state_dict(state)
    train(*again[:2])
    assert all(map(torch.equal, model.parameters(), again[0].parameters()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start": 0}, "start=0 must be a fraction"),
        ({"end": 1.5}, "end=1.5 must be a fraction"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"model": nn.Conv2d(3, 3, 3)}, "no factorized layer"),
    ],
)
def test_a_bad_schedule_is_refused(change, said):
    given = {"model": layer(), "optimizer": None, "start": 0.9, "end": 0.2, "steps": 3, **change}
    with pytest.raises(ValueError, match=said):
        RankSchedule(**given)
