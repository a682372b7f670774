"""A linear layer over split modes, run as matrix products: the dense one, with little moved."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import FactorizedLinear, Fixed, relative_error
from tenfold.run import convolve

SPLIT = ["tt_matrix", "cp_matrix", "tucker_matrix", "kronecker"]


SIDES = (2, 3, 4), (3, 2, 4)


def make(factorization="tt_matrix", rank=3, sides=SIDES, **more):
    options = {"dtype": torch.float64, **more}
    return FactorizedLinear(*sides, rank=rank, factorization=factorization, **options)


def stages(layer):
    return layer.plan.stages


@pytest.mark.parametrize("factorization", SPLIT)
@settings(max_examples=12, deadline=None)
@given(data=st.data(), rows=st.sampled_from([1, 2, 7]), limit=st.sampled_from([0, 50, 2**19]))
def test_every_partition_is_the_matrix(factorization, data, rows, limit):
    layer = make(factorization, sides=(24, 24) if factorization == "kronecker" else SIDES)
    order = data.draw(st.permutations(range(len(layer.weight.factors))))
    cuts = data.draw(st.sets(st.integers(1, len(order)), max_size=2)) | {0, len(order)}
    partition = tuple(tuple(order[a:b]) for a, b in pairwise(sorted(cuts)))
    layer = FactorizedLinear.from_factorization(
        layer.weight, implementation=Fixed(partition), bias=layer.bias
    )
    x = torch.randn(rows, 24, dtype=torch.float64, requires_grad=True)
    towards, given_ = torch.randn(rows, 24, dtype=torch.float64), [x, *layer.parameters()]
    wanted = nn.functional.linear(x, layer.weight.to_tensor(), layer.bias)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolve, "MOST", limit)
        found = [layer(x), layer(x)]
        with torch.no_grad():
            found += [layer.eval()(x), layer(x), layer.to_sequential()(x)]
    assert all(relative_error(wanted, y) < 1e-12 for y in found)
    slopes = torch.autograd.grad((wanted * towards).sum(), given_)
    for y in found[:2]:
        for one, other in zip(
            slopes, torch.autograd.grad((y * towards).sum(), given_), strict=True
        ):
            assert relative_error(one, other) < 1e-10


@pytest.mark.parametrize("partition", [((0,), (1,), (2,)), ((2,), (1,), (0,)), ((0, 1), (2,))])
def test_a_tensor_train_meets_its_input_where_it_lies(partition):
    layer = make(implementation=Fixed(partition))
    assert layer.plan.permutation is None
    assert all(stage.permutation is None for stage in stages(layer))
    assert any(stage.after > 1 for stage in stages(layer))


def test_what_lies_between_is_brought_together():
    layer = make(implementation=Fixed(((0,), (2,), (1,))))
    assert [stage.permutation is None for stage in stages(layer)] == [True, True, True]
    layer = make("cp_matrix")
    assert sum(stage.permutation is not None for stage in stages(layer)) <= 1


def test_few_rows_meet_less_of_it_merged_in_eval_and_in_training():
    layer = make(rank=16, sides=((8, 8, 16),) * 2, dtype=torch.float32).eval()
    assert len(stages(layer)) == 1  # of many rows the matrix takes least
    thin, apart = layer.plan.thin, layer.plan.apart
    assert len(thin.chain.stages) > 1
    assert thin.below < apart.below  # in training the matrix is made anew as well
    with torch.no_grad():
        for many, made in ((1, {False}), (int(thin.below) // 1024 + 1, {False, True})):
            x = torch.randn(many, 1024)
            dense = nn.functional.linear(x, layer.weight.to_tensor(), layer.bias)
            assert relative_error(dense, layer(x)) < 1e-5
            assert {*layer.eval_cache._kept.run.made} == made
    assert len(layer.eval_cache._kept.run.made[True].steps) == 1


def test_a_tuned_layer_runs_as_was_decided_whatever_the_rows():
    layer = make(rank=16, sides=((8, 8, 16),) * 2, implementation="auto").eval()
    layer.fix_plan({"partition": [[0, 1, 2]]})
    assert layer.plan.thin is None


def test_a_weight_that_changes_is_noticed_by_both_ways():
    layer = make(rank=16, sides=((8, 8, 16),) * 2).eval()
    inputs = [torch.randn(many, 1024, dtype=torch.float64) for many in (1, 64)]
    with torch.no_grad():
        for x in inputs:
            layer(x)
        layer.weight.factors[0].mul_(2)
        for x in inputs:
            dense = nn.functional.linear(x, layer.weight.to_tensor(), layer.bias)
            assert relative_error(dense, layer(x)) < 1e-12
