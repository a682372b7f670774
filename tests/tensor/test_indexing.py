"""Indexing a factorized tensor is indexing the dense one."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tenfold import FactorizedTensor

FORMATS = ("dense", "cp", "tucker", "tt", "kronecker", "hadamard", "tucker+cp")


@st.composite
def indices(draw, shape):
    """An index of a tensor of this shape, as people write them."""
    several = draw(st.sampled_from([(), (2,), (1, 3), (3,)]))
    found = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        place = st.integers(-size, size - 1)
        nested = place
        for length in reversed(several):
            nested = st.lists(nested, min_size=length, max_size=length)
        mask = st.lists(st.booleans(), min_size=size, max_size=size)
        found.append(
            draw(
                st.one_of(
                    place,
                    st.slices(size).filter(lambda one: (one.step or 1) > 0),
                    nested,
                    mask if several == (2,) and sum(map(bool, found)) == 0 else nested,
                )
            )
        )
    if draw(st.booleans()):
        found.insert(draw(st.integers(0, len(found))), ...)
    for _ in range(draw(st.integers(0, 2))):
        found.insert(draw(st.integers(0, len(found))), None)
    return tuple(found)


def dense(one):
    return one if isinstance(one, torch.Tensor) else one.to_tensor()


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(FORMATS))
def test_it_equals_dense_indexing_values_and_gradients(data, name):
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple))
    tensor = FactorizedTensor.new(shape, rank=2, factorization=name, dtype=torch.float64)
    index = data.draw(indices(shape))
    whole = tensor.to_tensor()
    try:
        wanted = whole[index]
    except IndexError:  # lists of lengths that do not go together
        with pytest.raises((IndexError, RuntimeError)):
            tensor[index]
        return
    assume(wanted.numel())  # of nothing PyTorch takes any index
    found = tensor[index]
    assert found.shape == wanted.shape
    torch.testing.assert_close(dense(found), wanted)
    parameters = list(tensor.parameters())
    weights = torch.randn_like(wanted)
    of_found = torch.autograd.grad((dense(found) * weights).sum(), parameters, allow_unused=True)
    of_wanted = torch.autograd.grad((wanted * weights).sum(), parameters, allow_unused=True)
    for one, other in zip(of_found, of_wanted, strict=True):
        torch.testing.assert_close(
            torch.zeros(()) if one is None else one.norm().float(),
            torch.zeros(()) if other is None else other.norm().float(),
        )


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_indexed_is_indexed_again(name):
    tensor = FactorizedTensor.new((4, 6, 5), rank=3, factorization=name)
    whole = tensor.to_tensor()
    part = tensor[1:][:, [0, 0, 4]][..., 2]
    assert isinstance(part, FactorizedTensor)
    torch.testing.assert_close(part.to_tensor(), whole[1:][:, [0, 0, 4]][..., 2])


@pytest.mark.parametrize("index", [slice(0), [], torch.zeros(4, dtype=torch.bool), (..., slice(0))])
def test_nothing_may_be_chosen(index):
    tensor = FactorizedTensor.new((4, 6), rank=3)
    assert tensor[index].to_tensor().shape == tensor.to_tensor()[index].shape


def test_a_new_axis_at_the_end_is_one():
    tensor = FactorizedTensor.new((4, 6), rank=3)
    assert tensor[..., None].shape == tensor[:, :, None].shape == (4, 6, 1)


def test_a_tensor_whose_every_axis_was_chosen_is_a_number():
    tensor = FactorizedTensor.new((4, 6), rank=3)
    assert isinstance(tensor[1, 2], torch.Tensor)
    assert tensor[1, 2].dim() == 0


def test_a_mask_over_two_axes_chooses_its_places():
    tensor = FactorizedTensor.new((4, 6, 3), rank=3, factorization="tt")
    mask = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)) > 0
    torch.testing.assert_close(tensor[mask].to_tensor(), tensor.to_tensor()[mask])


def test_a_list_with_slices_in_it_is_an_index_for_each_axis():
    tensor = FactorizedTensor.new((4, 6, 3), rank=3)
    torch.testing.assert_close(
        tensor[[slice(1, 3), slice(None), 0]].to_tensor(), tensor.to_tensor()[1:3, :, 0]
    )


def test_a_slice_of_a_factor_is_a_view_of_it():
    tensor = FactorizedTensor.new((4, 6, 3), rank=3)
    part = tensor[1:3]
    assert part.factors[1] is tensor.factors[1]
    assert part.factors[0].data_ptr() == tensor.factors[0][1:].data_ptr()


def test_iterating_goes_over_the_first_axis():
    tensor = FactorizedTensor.new((4, 6, 3), rank=3)
    stacked = torch.stack([one.to_tensor() for one in tensor])
    torch.testing.assert_close(stacked, tensor.to_tensor())


@pytest.mark.parametrize(
    ("index", "error", "said"),
    [
        (4, IndexError, "index 4 is out of range for axis 0, of size 4"),
        ((0, -7), IndexError, "index -7 is out of range for axis 1"),
        ([5], IndexError, "out of range for axis 0"),
        ((0, 0, 0), IndexError, r"are 3, for a tensor of 2 axes"),
        ((..., ...), IndexError, "twice"),
        ([True, False], IndexError, r"a mask of shape \(2,\) at axis 0"),
        (1.0, TypeError, "must be an int, a slice"),
        (True, TypeError, "must be an int, a slice"),
        ("a", TypeError, "must be an int, a slice"),
        (slice(None, None, -1), ValueError, "a step above 0"),
    ],
)
def test_what_is_no_index_is_refused(index, error, said):
    with pytest.raises(error, match=said):
        FactorizedTensor.new((4, 6), rank=2)[index]
