"""What a user may ask for as `rank`, and what it buys."""

from fractions import Fraction
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import FactorizedConv, FactorizedKernel, factorizations
from tenfold.network import KernelNetwork
from tenfold.testing import fractions

SHAPE = (24, 16, 3, 5)


def network(name: str, shape: tuple[int, ...], rank: object, groups: int = 1) -> KernelNetwork:
    """The structure that the request buys, without the numbers."""
    return factorizations[name]().network(shape, rank, groups)


def ranks(name: str, shape: tuple[int, ...], rank: object) -> tuple[int, ...]:
    bought = network(name, shape, rank)
    return tuple(bought.sizes[bond] for bond in bought.bonds)


def large_shapes() -> st.SearchStrategy[tuple[int, ...]]:
    """Kernel shapes as trained networks have them: `(out, in, *k)`."""
    channels = st.one_of(st.integers(1, 40), st.sampled_from([64, 100, 256, 512, 1000]))
    return st.integers(0, 4).flatmap(
        lambda order: st.tuples(channels, channels, *(st.integers(1, 7),) * order)
    )


@pytest.mark.parametrize("rank", [0.1, 0.25, 0.5, 0.75, 1.0, "same"])
@pytest.mark.parametrize("shape", [(512, 512, 3, 3), (256, 512, 3, 3), (128, 64, 3, 3, 3)])
def test_a_budget_is_spent_to_at_least_nine_tenths_and_never_exceeded(factorization, shape, rank):
    budget = prod(shape) * (1.0 if rank == "same" else rank)
    assert 0.9 * budget <= network(factorization, shape, rank).numel <= budget


@settings(max_examples=150, deadline=None)
@given(shape=large_shapes(), rank=st.one_of(st.just("same"), fractions(), st.floats(1e-6, 3.0)))
def test_a_budget_is_exceeded_only_where_every_bond_is_1(factorization, shape, rank):
    bought = network(factorization, shape, rank)
    budget = prod(shape) * (1.0 if rank == "same" else rank)
    assert bought.numel <= budget * (1 + 1e-9) or set(ranks(factorization, shape, rank)) == {1}


@settings(max_examples=150, deadline=None)
@given(shape=large_shapes(), rank=fractions())
def test_no_bond_can_grow_within_the_budget(factorization, shape, rank):
    bought = ranks(factorization, shape, rank)
    exact = ranks(factorization, shape, 10**9)
    for place, (size, most) in enumerate(zip(bought, exact, strict=True)):
        grown = (*bought[:place], size + 1, *bought[place + 1 :])
        if size < most and ranks(factorization, shape, grown) != bought:
            assert network(factorization, shape, grown).numel > rank * prod(shape)


@settings(max_examples=100, deadline=None)
@given(
    shape=large_shapes(),
    rank=st.one_of(st.just("same"), fractions(), st.integers(1, 2000)),
    groups=st.integers(1, 3),
)
def test_the_realised_rank_buys_the_same_network_again(factorization, shape, rank, groups):
    shape = (groups * shape[0], *shape[1:])
    first = network(factorization, shape, rank, groups)
    realised = tuple(first.sizes[bond] for bond in first.bonds)
    again = network(factorization, shape, realised[0] if len(realised) == 1 else realised, groups)
    assert again == first
    assert min(realised) >= 1


@settings(max_examples=100, deadline=None)
@given(shape=large_shapes(), ranks_=st.tuples(st.integers(1, 600), st.integers(1, 600)))
def test_a_larger_rank_never_buys_fewer_parameters(factorization, shape, ranks_):
    few, many = (network(factorization, shape, rank).numel for rank in sorted(ranks_))
    assert few <= many


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("rank", ["same", 0.2, 4, (6, 5)])
def test_tucker_leaves_the_spatial_modes_whole(order, rank):
    shape = (12, 10, 3, 5, 2, 4)[: order + 2]
    bought = network("tucker", shape, rank)
    assert bought.bonds == ("ro", "ri")
    assert bought.shapes[-1][2:] == shape[2:]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_tucker_splits_the_spatial_modes_given_a_rank_for_every_mode(order):
    rank = (6, 5, 2, 3, 1, 2)[: order + 2]
    bought = network("tucker", (12, 10, 3, 5, 2, 4)[: order + 2], rank)
    assert len(bought.factors) == order + 3
    assert bought.shapes[-1] == rank
    assert FactorizedKernel.new(bought.shape, rank=rank, factorization="tucker").rank == rank


@pytest.mark.parametrize(("shape", "interior"), [((8, 6), (4,)), ((24, 16, 3, 5), (6, 9, 7))])
def test_tt_takes_the_interior_bonds_with_or_without_ones_at_both_ends(shape, interior):
    assert ranks("tt", shape, interior) == interior
    assert ranks("tt", shape, (1, *interior, 1)) == interior
    assert ranks("tt", shape, [1, *interior, 1]) == interior


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (np.int64(5), 5),
        (np.int32(5), 5),
        (np.float64(0.25), 0.25),
        (np.float32(0.25), 0.25),
        (Fraction(1, 4), 0.25),
        (torch.Size([5]), 5),
        (1, 1),
        (1.0, "same"),
    ],
)
def test_numbers_of_any_kind_are_numbers(given, meant):
    assert network("cp", SHAPE, given) == network("cp", SHAPE, meant)


@pytest.mark.parametrize("given", [(5, 4), [5, 4], (np.int64(5), 4), torch.Size([5, 4])])
def test_a_rank_for_each_bond_comes_in_any_sequence(given):
    assert FactorizedKernel.new(SHAPE, rank=given, factorization="tucker").rank == (5, 4)


def test_an_int_is_one_float_is_a_fraction():
    assert ranks("cp", SHAPE, 1) == (1,)
    assert ranks("cp", SHAPE, 1.0) == (prod(SHAPE) // sum(SHAPE),)


@pytest.mark.parametrize(
    ("name", "shape", "exact"),
    [
        ("cp", (24, 16, 3, 5), (240,)),
        ("cp", (4, 4, 9), (16,)),
        ("cp", (5, 8), (5,)),
        ("tucker", (24, 16, 3, 5), (24, 16)),
        ("tucker", (100, 2, 3, 3), (18, 2)),
        ("tucker", (5, 8), (5, 5)),
        ("tt", (24, 16, 3, 5), (16, 48, 24)),
        ("tt", (100, 2, 3, 3), (2, 6, 18)),
        ("tt", (5, 8), (5,)),
    ],
)
def test_an_int_is_clipped_to_what_is_exact(name, shape, exact):
    assert ranks(name, shape, 10**9) == exact


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (0, ValueError, r"rank=0 .*at least 1"),
        (-1, ValueError, r"rank=-1 .*at least 1"),
        (np.int64(0), ValueError, r"rank=.*0.* at least 1"),
        (0.0, ValueError, r"rank=0\.0 .*positive"),
        (-0.5, ValueError, r"rank=-0\.5 .*positive"),
        (float("nan"), ValueError, r"rank=nan .*positive"),
        (float("inf"), ValueError, r"rank=inf .*positive"),
        (True, TypeError, r"rank=True must be 'same', a float"),
        ("banana", ValueError, r"rank='banana' is not understood.*'same', a float"),
        (None, ValueError, r"rank=None is not understood.*'same', a float"),
        ((3, 3, 3, 3, 3), ValueError, r"rank=\(3, 3, 3, 3, 3\) has 5 numbers.*order 2 takes"),
        ((), ValueError, r"rank=\(\) has 0 numbers.*order 2 takes"),
        ((3,) * 9, ValueError, r"rank=\(3, .*has 9 numbers.*order 2 takes"),
        (3j, ValueError, r"rank=3j is not understood"),
        ({4, 3}, ValueError, r"rank=\{.*\} is not understood"),
    ],
)
def test_what_is_no_rank_is_refused_by_its_value(factorization, given, error, message):
    with pytest.raises(error, match=message):
        FactorizedConv(16, 24, (3, 5), rank=given, factorization=factorization)


@pytest.mark.parametrize("name", ["tucker", "tt"])
@pytest.mark.parametrize(
    ("bad", "error"), [(0, ValueError), (-2, ValueError), (0.5, TypeError), (True, TypeError)]
)
def test_what_is_no_rank_of_one_bond_is_refused_by_its_value(name, bad, error):
    given = (2, bad) if name == "tucker" else (2, bad, 2)
    with pytest.raises(error, match=rf"rank=.*{bad}.* must be "):
        FactorizedConv(16, 24, (3, 5), rank=given, factorization=name)
