"""The factors in the field's form: what contracts CP, Tucker and tensor trains by hand goes on."""

import pytest
import torch

from tenfold import FactorizedTensor

SHAPE = (4, 3, 5, 2)
SLICES = {
    "whole": (),
    "slices": (slice(1, None), slice(None), slice(None, -1)),
    "an int first": 1,
    "an int inside": (slice(None), 2),
    "ints at the end": (..., 1, 0),
    "ints apart": (1, slice(None), -1),
    "a list": (slice(None), [2, 0]),
}
LETTERS = "abcdefgh"


def by_hand(tensor):
    """As programs contract them: a letter for each axis, and the ranks by capitals."""
    axes = LETTERS[: tensor.ndim]
    ranks = "RSTUVWXY"
    if tensor.name == "cp":
        spelled = ["R", *(f"{axis}R" for axis in axes)]
        given = [tensor.weights, *tensor.factors]
    elif tensor.name == "tucker":
        spelled = [ranks[: len(axes)], *(a + r for a, r in zip(axes, ranks, strict=False))]
        given = [tensor.core, *tensor.factors]
    else:
        spelled = [ranks[i] + axis + ranks[i + 1] for i, axis in enumerate(axes)]
        given = tensor.factors
    return torch.einsum(f"{','.join(spelled)}->{axes}", *given)


@pytest.mark.parametrize("name", ["cp", "tucker", "tt"])
@pytest.mark.parametrize("part", SLICES)
def test_the_factors_contract_to_the_tensor(name, part):
    tensor = FactorizedTensor.new(SHAPE, rank=3, factorization=name, dtype=torch.complex128)
    found = tensor if part == "whole" else tensor[SLICES[part]]
    wanted = tensor.to_tensor()[SLICES[part]]
    torch.testing.assert_close(by_hand(found), wanted)


@pytest.mark.parametrize("name", ["cp", "tucker", "tt"])
@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (4, 3, 5), (4, 3)])
def test_of_what_is_made_one_of_the_first_two_axes_is_last_in_memory(name, shape):
    tensor = FactorizedTensor.new(shape, rank=3, factorization=name)
    made = tensor.to_tensor()
    assert made.shape == shape
    if len(shape) > 2:
        assert 1 in made.stride()[:2]


def test_a_tensor_train_begins_and_ends_with_a_rank_of_one():
    tensor = FactorizedTensor.new(SHAPE, rank=2, factorization="tt")
    shapes = [tuple(one.shape) for one in tensor.factors]
    assert shapes == [(1, 4, 2), (2, 3, 2), (2, 5, 2), (2, 2, 1)]


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_spectral_layer_contracts_its_slices(axes):
    """As neural operators do: the lowest of a tensor's frequencies, complex, factor by factor."""
    sizes = (6, 4, 5)[:axes]
    x = torch.randn(2, 3, *(s - 2 for s in sizes), dtype=torch.cfloat, requires_grad=True)
    for name in ("cp", "tucker", "tt"):
        weight = FactorizedTensor.new(
            (3, 4, *sizes),
            rank=0.5,
            factorization=name,
            fixed_rank_modes=None,
            dtype=torch.cfloat,
        ).normal_(0, 0.1)
        part = weight[(slice(None), slice(None), *(slice(1, -1) for _ in sizes))]
        space = "xyz"[:axes]
        found = torch.einsum(f"bi{space},io{space}->bo{space}", x, part)
        wanted = torch.einsum(f"bi{space},io{space}->bo{space}", x, part.to_tensor())
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(
            torch.einsum(f"bi{space},io{space}->bo{space}", x, by_hand(part)), wanted
        )
        found.abs().sum().backward()
        assert all(one.grad is not None and one.grad.is_complex() for one in weight.parameters())


def test_what_has_no_such_form_says_so():
    for tensor, wanted in [
        (FactorizedTensor.new(SHAPE, rank=2), "core"),
        (FactorizedTensor.new(SHAPE, rank=2, factorization="tt"), "weights"),
        (FactorizedTensor.new(SHAPE, rank=2, factorization="tucker")[[0, 1], [0, 1]], "core"),
        (FactorizedTensor.new(SHAPE, rank=2)[None], "weights"),
    ]:
        with pytest.raises(AttributeError, match=f"has no {wanted} as it stands"):
            getattr(tensor, wanted)
    turned = torch.transpose(FactorizedTensor.new(SHAPE, rank=2, factorization="tt"), 0, 1)
    assert [one.dim() for one in turned.factors] == [2, 3, 3, 2]
