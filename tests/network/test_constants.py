"""Factors that a format fixes: buffers that are neither counted, drawn nor fitted."""

import copy
import pickle

import pytest
import torch
from torch import nn

from tenfold import (
    Factorization,
    FactorizedConv,
    FactorizedKernel,
    Moment,
    compress,
    decompose,
    factorizations,
    relative_error,
)
from tenfold.testing import conformance


def cosines(size: int, waves: int) -> torch.Tensor:
    """The first waves of the discrete cosine transform, `(size, waves)`, orthonormal."""
    place, wave = torch.arange(size).double()[:, None] + 0.5, torch.arange(waves).double()
    matrix = torch.cos(torch.pi * place * wave / size) * (2 / size) ** 0.5
    matrix[:, 0] /= 2**0.5
    return matrix


class Harmonic(Factorization):
    """Filters that are sums of cosine waves, by a channel mixing of rank `r` (Ulicny et al. 2019,
    arXiv 1812.03205)."""

    def factors(self, order, rank):
        waves = [f"f{axis}" for axis in range(order)]
        fixed = [(f"k{axis}", f"f{axis}") for axis in range(order)]
        return [*fixed, ("in", *waves, "r"), ("r", "out")]

    def constant(self, modes, sizes):
        if modes[0][0] != "k":
            return None
        return cosines(sizes[modes[0]], sizes[modes[1]])


@conformance(factorization=Harmonic, max_examples=6)
class TestHarmonic:
    pass


def trained(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_they_are_buffers_that_are_not_counted_and_move_with_the_layer():
    layer = FactorizedConv(8, 12, (3, 5), rank=(3, 5, 4), factorization=Harmonic)
    names = [name for name, _ in layer.named_buffers()]
    assert names == ["weight.factors.0", "weight.factors.1"]
    assert layer.weight.numel() == 8 * 3 * 5 * 4 + 4 * 12
    assert sum(p.numel() for p in layer.parameters()) == layer.weight.numel() + 12
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.double()):
        assert torch.equal(other.weight.factors[0].float(), cosines(3, 3).float())
    assert set(names) < set(layer.state_dict())


@pytest.mark.parametrize("groups", [1, 2])
def test_decomposing_leaves_them_and_is_exact_at_full_rank(groups):
    kernel = trained(8, 6, 3, 3)
    found = decompose(kernel, rank=10**9, factorization=Harmonic, groups=groups)
    assert found.error < 1e-5
    for axis in range(2):
        held = found.kernel.factors[axis]
        assert torch.equal(held, cosines(3, 3).float().expand_as(held))


def test_a_moment_leaves_them_and_lowers_the_error_of_the_output():
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 12, 3)
    moment = Moment(conv)
    moment.update(torch.randn(40, 8, 8, 8).cumsum(1).cumsum(2))
    errors = []
    for given in (moment, None):
        made = FactorizedConv.from_conv(conv, rank=0.4, factorization=Harmonic, moment=given)
        assert torch.equal(made.weight.factors[0], cosines(3, made.rank[0]).float())
        errors.append(moment.output_error(conv.weight, made.weight.to_tensor()))
    assert errors[0] < 0.9 * errors[1]


def test_a_budget_pays_for_what_is_learned_alone():
    made = FactorizedKernel.from_tensor(trained(16, 12, 3, 3), rank=0.5, factorization=Harmonic)
    assert 0.45 * 16 * 12 * 9 < made.numel() <= 0.5 * 16 * 12 * 9


def test_training_and_eval_follow_them():
    layer = FactorizedConv(4, 6, (3, 3), bias=False, rank=(2, 3, 3), factorization=Harmonic)
    layer = layer.double().eval()
    x = torch.randn(2, 4, 7, 7).double()
    layer(x).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
    with torch.no_grad():
        before = layer(x)
        layer.weight.factors[0].mul_(2)
        assert relative_error(2 * before, layer(x)) < 1e-12


def test_compress_saves_and_loads_them(tmp_path, monkeypatch):
    monkeypatch.setattr(factorizations, "_registered", {})  # for this test
    factorizations.register("harmonic", Harmonic)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3))
    batch = torch.randn(16, 3, 8, 8)
    from tenfold import load, save

    made = compress(
        net,
        example_inputs=batch[:2],
        calibration=[batch],
        budget=0.7,
        metric="parameters",
        factorizations=["harmonic"],
        progress=False,
        never_slower=False,
    )
    layers = [one for one in made.model.modules() if isinstance(one, FactorizedConv)]
    assert layers
    assert torch.equal(layers[0].weight.factors[0], cosines(3, layers[0].rank[0]).float())
    save(made, tmp_path / "made")
    again = load(tmp_path / "made", net)
    assert torch.equal(again(batch), made.model.eval()(batch))


class Misshapen(Harmonic):
    def constant(self, modes, sizes):
        return torch.ones(1, 1, 1) if "k0" in modes else None


def test_values_of_another_shape_are_refused_by_name():
    with pytest.raises(ValueError, match=r"Misshapen\.constant\(.*must give values of shape"):
        FactorizedConv(4, 6, (3,), rank=2, factorization=Misshapen)
