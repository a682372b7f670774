"""A factorized tensor of any shape: drawn, decomposed, held as a module's parameters."""

import copy
import io
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import Energy, Error, FactorizedTensor, factorizations, relative_error

FORMATS = ("dense", *factorizations.shipped(), "tucker+cp")
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=6, deadline=None)
@given(shape=SHAPES, number=st.sampled_from([torch.float64, torch.complex128]))
def test_at_full_rank_any_tensor_comes_back(name, shape, number):
    tensor = torch.randn(shape, dtype=number, generator=torch.Generator().manual_seed(0))
    found = FactorizedTensor.from_tensor(tensor, rank=10**6, factorization=name)
    assert found.shape == shape
    assert found.dtype == number
    assert relative_error(tensor, found.to_tensor()) < 1e-6


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=8, deadline=None)
@given(shape=SHAPES, std=st.floats(1e-3, 1e3), number=st.sampled_from([None, torch.complex64]))
def test_normal_gives_the_tensor_that_standard_deviation(name, shape, std, number):
    tensor = FactorizedTensor.new(shape, rank=3, factorization=name, dtype=number)
    assert tensor.normal_(0, std) is tensor
    drawn = tensor.to_tensor().detach().abs().double().square().mean() ** 0.5
    assert abs(float(drawn) / std - 1) < 1e-3


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "dense"])
def test_a_budget_is_kept(name):
    for rank in (0.5, "same"):
        tensor = FactorizedTensor.new((16, 16, 8, 5), rank=rank, factorization=name)
        held = sum(one.numel() for one in tensor.parameters())
        assert held <= (0.5 if rank == 0.5 else 1) * prod(tensor.shape)


def test_tucker_has_a_rank_for_each_axis_whatever_was_asked():
    for rank in (2, 0.5, "same", (2, 2, 2, 2)):
        tensor = FactorizedTensor.new((6, 5, 4, 3), rank=rank, factorization="tucker")
        assert len(tensor.rank) == 4
    whole = torch.randn(6, 5, 4, 3)
    near = FactorizedTensor.from_tensor(whole, rank=Error(0.5), factorization="tucker")
    assert len(near.rank) == 4
    assert relative_error(whole, near.to_tensor()) <= 0.5
    kept = FactorizedTensor.from_tensor(whole, rank=Energy(0.75), factorization="tt")
    assert relative_error(whole, kept.to_tensor()) ** 2 <= 0.25


@pytest.mark.parametrize("rank", [2, 0.4, (2, 2, 2, 2)])
def test_the_fixed_axes_keep_their_rank(rank):
    tensor = FactorizedTensor.new(
        (6, 5, 4, 3), rank=rank, factorization="tucker", fixed_rank_modes=[1, -1]
    )
    assert tensor.rank[1] == 5
    assert tensor.rank[3] == 3
    assert tensor.rank[0] < 6
    assert sum(one.numel() for one in tensor.parameters()) <= 360 * (0.4 if rank == 0.4 else 1)


def test_fixed_axes_say_nothing_to_a_format_without_a_rank_of_an_axis():
    alone, fixed = (
        FactorizedTensor.new((6, 5, 4), rank=0.5, fixed_rank_modes=modes) for modes in (None, [0])
    )
    assert alone.rank == fixed.rank


def test_it_is_a_module_whose_factors_are_parameters():
    tensor = FactorizedTensor.new((6, 5, 4), rank=2, factorization="tucker")
    model = nn.ModuleList([tensor])
    assert len(list(model.parameters())) == 4
    again = FactorizedTensor.new((6, 5, 4), rank=2, factorization="tucker")
    again.load_state_dict(tensor.state_dict())
    assert torch.equal(again.to_tensor(), tensor.to_tensor())
    assert torch.equal(copy.deepcopy(tensor).to_tensor(), tensor.to_tensor())
    held = io.BytesIO()
    torch.save(tensor, held)
    held.seek(0)
    assert torch.equal(torch.load(held, weights_only=False).to_tensor(), tensor.to_tensor())
    assert tensor.double().to_tensor().dtype == torch.float64
    assert tensor() is tensor
    assert tensor(0).shape == (5, 4)


def test_its_repr_is_the_call_that_made_it():
    for name in ("cp", "tucker", "tt", "dense"):
        tensor = FactorizedTensor.new((6, 5, 4), rank=2, factorization=name)
        again = eval(repr(tensor), {"FactorizedTensor": FactorizedTensor})
        assert [one.shape for one in again.parameters()] == [o.shape for o in tensor.parameters()]
    assert repr(tensor[0]) == "<dense tensor of (5, 4), rank ()>"


def test_the_same_random_state_draws_the_same_tensor():
    one, other = (
        FactorizedTensor.new((6, 5), rank=2, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert torch.equal(one.to_tensor(), other.to_tensor())


def test_the_tensor_that_is_decomposed_stays_as_it_was():
    for name in ("dense", "tucker"):
        tensor = torch.randn(5, 4, 3)
        before = tensor.clone()
        found = FactorizedTensor.from_tensor(tensor, rank=2, factorization=name)
        with torch.no_grad():
            for one in found.parameters():
                one.zero_()
        assert torch.equal(tensor, before)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"shape": ()}, ValueError, r"shape=\(\) must be one or more ints"),
        ({"shape": (4, 0)}, ValueError, r"shape=\(4, 0\) must be one or more ints of at least 1"),
        ({"shape": 4}, TypeError, "shape=4 must be a tuple"),
        ({"factorization": "banana"}, ValueError, "factorization='banana' is not installed"),
        ({"rank": Error(0.1)}, ValueError, "needs a kernel"),
        ({"fixed_rank_modes": [3]}, ValueError, r"fixed_rank_modes=\(3,\) must be of its 3 axes"),
        ({"fixed_rank_modes": "spatial"}, TypeError, "fixed_rank_modes='spatial' must be axes"),
        ({"dtype": torch.int32}, TypeError, "dtype"),
    ],
)
def test_what_makes_no_tensor_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        FactorizedTensor.new(**{"shape": (4, 3, 2), **arguments})


def test_a_decomposition_refuses_what_it_cannot_take():
    with pytest.raises(ValueError, match="NaN or infinite"):
        FactorizedTensor.from_tensor(torch.full((3, 2), float("nan")))
    with pytest.raises(ValueError, match="which Tucker does not take"):
        FactorizedTensor.from_tensor(
            torch.ones(3, 2), factorization="tucker", decomposition_kwargs={"banana": 1}
        )
    with pytest.raises(ValueError, match="fixed_rank_modes"):
        FactorizedTensor.from_tensor(
            torch.ones(3, 2), rank=Error(0.1), factorization="tucker", fixed_rank_modes=[0]
        )


def test_normal_refuses_what_it_cannot_draw():
    tensor = FactorizedTensor.new((3, 2), rank=1)
    with pytest.raises(ValueError, match="mean=1"):
        tensor.normal_(1)
    with pytest.raises(ValueError, match="std=-1"):
        tensor.normal_(0, -1)
    dense = FactorizedTensor.new((30, 20), factorization="dense").normal_(5, 0.1)
    assert abs(float(dense.to_tensor().detach().mean()) - 5) < 0.1
