"""Dense until the stable ranks settle, then low-rank, the optimizer with it."""

import copy

import pytest
import torch
from torch import nn

from tenfold import (
    Cuttlefish,
    FactorizedConv,
    factorizations,
    frobenius_decay,
    parameter_groups,
    relative_error,
)
from tenfold.network import KernelNetwork
from tenfold.training.stable import full_ranks, stable_ranks

X = torch.randn(4, 3, 8, 8)
NEVER, ALWAYS = 0.0, float("inf")


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 12, 3, groups=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 10),
    )


def adam(model):
    return torch.optim.Adam(parameter_groups(model, 1e-2), lr=0.01)


def train(model, optimizer, steps=2):
    for _ in range(steps):
        optimizer.zero_grad()
        (model(X).square().mean() + frobenius_decay(model, 1e-2)).backward()
        optimizer.step()


def switched(**options):
    model = small()
    optimizer = options.pop("make", adam)(model)
    watch = Cuttlefish(model, optimizer, settled=ALWAYS, exclude=["0", "6"], **options)
    train(model, optimizer)
    watch.step()
    train(model, optimizer)
    before = copy.deepcopy(model)
    state = copy.deepcopy(optimizer.state[model[3].weight])
    assert watch.step()
    return model, optimizer, watch, before, state


def test_the_stable_rank_of_a_kernel_is_that_of_its_unfoldings():
    network = KernelNetwork((("out", "r"), ("r", "in", "k0")), {"out": 6, "in": 4, "k0": 3, "r": 1})
    left, right = torch.linalg.qr(torch.randn(6, 2))[0], torch.linalg.qr(torch.randn(12, 2))[0]
    kernel = (left * torch.tensor([2.0, 1.0])) @ right.T  # singular values 2 and 1
    assert stable_ranks(kernel.reshape(6, 4, 3), network) == pytest.approx((1.25,))
    assert full_ranks(network) == (6,)


@pytest.mark.parametrize("factorization", [*factorizations.names(), "cp+depthwise_separable"])
@pytest.mark.parametrize("groups", [1, 2])
def test_stable_ranks_are_from_one_to_the_full_rank_in_every_format(factorization, groups):
    plugin = factorizations.choose(factorization).plugin
    network = plugin.network((8, 6, 3, 3), 1, groups)
    full = full_ranks(network)
    found = stable_ranks(torch.randn(8, 6, 3, 3), network)
    assert len(found) == len(full) == len(network.bonds)
    assert all(1 <= one <= most for one, most in zip(found, full, strict=True))
    assert stable_ranks(torch.ones(8, 6, 3, 3), network) == pytest.approx([1] * len(full))


@pytest.mark.parametrize("factorization", ["cp", "tt", "kronecker", "tucker+depthwise_separable"])
def test_it_switches_to_any_format_at_the_ranks_it_found(factorization):
    model = nn.Sequential(nn.Conv2d(16, 16, 3))
    with torch.no_grad():
        model[0].weight.fill_(0.1).add_(1e-6 * torch.randn(16, 16, 3, 3))
    watch = Cuttlefish(model, None, factorization=factorization)
    watch.step()
    bonds = len(watch.ranks[0]["0"])  # from here as if training had come to few directions
    before = {"ranks": [{"0": (1.05,) * bonds}], "scales": {"0": (1.0,) * bonds}, "switched": None}
    watch.load_state_dict(before)
    assert watch.step()
    assert isinstance(model[0], FactorizedConv)
    assert watch.switched["0"] == model[0].rank


def test_it_is_dense_until_the_ranks_settle():
    model = small()
    watch = Cuttlefish(model, None, settled=0.05, include=["3"], factorization="channel_svd")
    whole, one = torch.randn(8, 6, 3, 3), torch.randn(8, 6, 1, 1).expand(8, 6, 3, 3)
    found = []
    for share in (0.0, 0.6, 1.5, 1.51, 1.51):  # a kernel that comes nearer to a few directions
        if not isinstance(model[3], FactorizedConv):
            with torch.no_grad():
                model[3].weight.copy_(whole + share * one)
        found.append((watch.step(), type(model[3]) is nn.ConvTranspose2d))
    assert found == [(False, True)] * 3 + [(True, False), (False, False)]
    assert len(watch.ranks) == 4
    assert watch.switched["3"] < 6


def test_the_first_scaled_rank_is_the_full_one():
    watch = Cuttlefish(small(), None, factorization="channel_svd")
    watch.step()
    assert watch.ranks[0]["0"] == pytest.approx((8,))


def test_it_never_switches_where_nothing_may_change():
    model = small()
    optimizer = adam(model)
    watch = Cuttlefish(model, optimizer, settled=NEVER)
    for _ in range(3):
        train(model, optimizer)
        assert not watch.step()
    assert watch.switched is None


def test_after_the_switch_the_named_layers_are_low_rank():
    model, _, watch, before, _ = switched(rank=0.4)
    assert isinstance(model[3], FactorizedConv)
    assert [type(model[i]) for i in (0, 6)] == [nn.Conv2d, nn.Linear]
    assert watch.switched == {"3": model[3].rank}
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in before.parameters())
    dense = before[3].weight.detach().reshape(2, 4, 6, 3, 3).transpose(1, 2).flatten(0, 1)
    assert relative_error(dense, model[3].weight.to_tensor()) < 0.8
    assert model[3].transposed
    assert not watch.step()


def test_layers_that_would_be_no_smaller_stay_dense():
    model, _, watch, _, _ = switched(rank=10**9)
    assert watch.switched == {"3": None}
    assert isinstance(model[3], nn.ConvTranspose2d)


@pytest.mark.parametrize(
    "make",
    [
        adam,
        lambda model: torch.optim.SGD(parameter_groups(model, 1e-2), lr=0.01, momentum=0.9),
    ],
)
def test_moments_go_through_the_chain_rule_of_the_factors(make):
    model, optimizer, _, _, state = switched(make=make, rank=0.4)
    factors = list(model[3].weight.factors)
    for key in ("momentum_buffer", "exp_avg"):
        if key in state:
            average = state[key].reshape(2, 4, 6, 3, 3).transpose(1, 2).flatten(0, 1)
            kernel = model[3].weight.to_tensor()
            wanted = torch.autograd.grad(kernel, factors, average)
            found = [optimizer.state[factor][key] for factor in factors]
            assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted, strict=True))
    if "exp_avg_sq" in state:
        assert all(bool((optimizer.state[f]["exp_avg_sq"] >= 0).all()) for f in factors)
        assert all(bool(optimizer.state[f]["exp_avg_sq"].sum() > 0) for f in factors)
        assert all(optimizer.state[factor]["step"] == 4 for factor in factors)


def test_factors_join_the_group_that_decays_nothing_and_the_bias_stays():
    model, optimizer, _, before, _ = switched(rank=0.4)
    decayed, others = optimizer.param_groups
    held = {id(p) for p in others["params"]}
    assert {id(factor) for factor in model[3].weight.factors} <= held
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight), id(model[6].weight)]
    assert id(model[3].bias) in held
    assert optimizer.state[model[3].bias]["step"] == 4
    train(model, optimizer)
    assert not torch.equal(model[3].bias, before[3].bias)


def test_without_such_a_group_they_stay_in_that_of_their_layer():
    model, optimizer, *_ = switched(
        make=lambda model: torch.optim.SGD(model.parameters(), lr=0.01, weight_decay=0.1),
        rank=0.4,
    )
    assert len(optimizer.param_groups) == 1
    held = {id(p) for p in optimizer.param_groups[0]["params"]}
    assert held == {id(p) for p in model.parameters()}


def test_a_layer_in_two_places_is_switched_in_both():
    shared = nn.Conv2d(8, 8, 3, padding=1)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    watch = Cuttlefish(model, None, rank=0.3)
    watch.step()
    watch.step()
    assert isinstance(model[0], FactorizedConv)
    assert model[0] is model[2]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_goes_on_from_a_checkpoint_before_or_after_the_switch(steps):
    def made():
        model = small()
        optimizer = adam(model)
        watch = Cuttlefish(model, optimizer, settled=ALWAYS, rank=0.4, exclude=["0"])
        return watch, model, optimizer

    def epochs(watch, model, optimizer, count):
        for _ in range(count):
            train(model, optimizer)
            watch.step()

    first = made()
    epochs(*first, steps)
    kept = [copy.deepcopy(one.state_dict()) for one in first]
    epochs(*first, 2)
    second = made()
    for one, state in zip(second, kept, strict=True):
        one.load_state_dict(state)
    epochs(*second, 2)
    assert second[0].switched == first[0].switched
    assert all(map(torch.equal, first[1].parameters(), second[1].parameters()))


def test_a_state_of_other_layers_is_refused():
    *_, watch, _, _ = switched()
    with pytest.raises(ValueError, match=r"layers \['3'\], which this model has not"):
        Cuttlefish(small(), None, exclude=["3"]).load_state_dict(watch.state_dict())


def test_an_unknown_optimizer_is_refused_before_anything_is_changed():
    model = small()
    optimizer = torch.optim.Adagrad(model.parameters())
    watch = Cuttlefish(model, optimizer, settled=ALWAYS, rank=0.4)
    train(model, optimizer)
    watch.step()
    with pytest.raises(ValueError, match="optimizer=Adagrad keeps 'sum'"):
        watch.step()
    assert not any(isinstance(one, FactorizedConv) for one in model)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"settled": -1}, "settled=-1 must be"),
        ({"rank": 0}, "layer '0': rank=0"),
        ({"factorization": "tuker"}, "tucker"),
        ({"exclude": ["9"]}, "matches no layer"),
    ],
)
def test_a_bad_argument_is_refused_at_once(options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        Cuttlefish(small(), None, **options)
