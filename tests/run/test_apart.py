"""Merged factors run one by one in training where that is cheaper, with the same results."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings

from tenfold import FactorizedConv, Fixed, relative_error
from tenfold.run import Chain
from tenfold.run.apart import with_apart
from tenfold.testing import requests


@pytest.fixture
def ran(monkeypatch):
    """The partitions that ran, in order."""
    seen = []
    suited = Chain.suited

    def noted(self, x):
        chain = suited(self, x)
        seen.append(chain.partition)
        return chain

    monkeypatch.setattr(Chain, "suited", noted)
    return seen


def make(implementation="factorized", **more):
    generator = torch.Generator().manual_seed(0)
    options = {"padding": 1, "rank": (20, 50, 20), "factorization": "tt", **more}
    return FactorizedConv(
        32, 32, (3, 3), implementation=implementation, **options, generator=generator
    )


def test_a_small_input_meets_single_factors_and_a_large_one_the_merged(ran):
    layer = make()
    merged = layer.plan.partition
    assert max(map(len, merged)) == 2
    layer(torch.randn(1, 32, 4, 4))
    assert len(ran) == 1
    assert set(map(len, ran[0])) == {1}
    ran.clear()
    layer(torch.randn(8, 32, 60, 60))
    assert ran == [merged]


def test_the_limit_is_where_what_is_multiplied_and_moved_takes_as_long():
    chain = make(stride=2).plan
    positions = chain.apart.below / 32 / 4  # of the output
    apart = sum(stage.roles.macs(make().weight.network) for stage in chain.apart.chain.stages)
    merged = sum(stage.roles.macs(make().weight.network) for stage in chain.stages)
    moved = 24 * 20 * 3 * 3 * 20  # the merged weight's elements
    cost = 20 * 3 * 50 * 3 * 20 + moved
    assert positions * apart == pytest.approx(positions * merged + cost)


@settings(max_examples=25, deadline=None)
@given(asked=requests())
def test_the_outputs_and_gradients_are_the_dense_ones_either_way(factorization, asked):
    layer = asked.layer(factorization=factorization, implementation="reconstructed").double()
    chain = with_apart(layer.plan, layer.weight.network, layer.config.geometry)
    assume(chain.apart is not None)
    layer.plan, x = chain.apart.chain, asked.input()
    wanted = asked.dense(x, layer.weight.to_tensor(), layer.bias)
    factors = tuple(layer.weight.factors)
    slopes = torch.autograd.grad(wanted.square().sum(), factors, retain_graph=True)
    y = layer(x)
    assert relative_error(wanted, y) < 1e-10
    for one, other in zip(slopes, torch.autograd.grad(y.square().sum(), factors), strict=True):
        assert relative_error(one, other) < 1e-8


def test_what_is_asked_for_by_name_or_exactly_is_never_taken_apart():
    assert make("reconstructed").plan.apart is None
    assert make(Fixed(((0, 1, 2, 3),))).plan.apart is None
    assert make(factorization="tucker", rank=8).plan.apart is None  # nothing is merged


def test_a_tuned_layer_trains_apart_and_a_compiled_one_is_whole(ran):
    layer, x = make("auto"), torch.randn(1, 32, 4, 4)
    layer.fix_plan({"partition": [[0, 1, 2, 3]], "memory_format": None})
    y = layer(x)
    assert set(map(len, ran[-1])) == {1}
    whole = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    assert relative_error(y, whole(x)) < 1e-5


def test_output_size_reaches_the_single_factors():
    layer = make(transposed=True, stride=2, padding=1)
    x = torch.randn(1, 32, 4, 4)
    y = layer(x, output_size=(8, 8))
    dense = layer.to_conv()(x, output_size=(8, 8))
    assert relative_error(dense, y) < 1e-5
