"""Sums of formats: each term runs by a plan of its own, and the outputs are added."""

import copy
import io
import pickle
from itertools import pairwise
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import (
    Error,
    Factorization,
    FactorizedConv,
    FactorizedKernel,
    Moment,
    Multiple,
    compress,
    decompose,
    factorizations,
    load,
    relative_error,
    save,
    to_plain,
)
from tenfold.compression.moments import norm
from tenfold.network import KernelSum
from tenfold.plugin import Sum
from tenfold.testing import conformance, fractions, requests

SUMS = ("tucker+depthwise_separable", "channel_svd+spatial_svd", "cp+kronecker+tt_matrix")


@conformance(factorization=SUMS[0], max_examples=4)
class TestSum:
    pass


class Own(Factorization):
    """A matrix, of a class that has no installed name."""

    def factors(self, order, rank):
        return [("in", "r"), ("r", "out", *(f"k{axis}" for axis in range(order)))]


@conformance(factorization=Sum(terms=(Own, factorizations["depthwise_separable"])), max_examples=1)
class TestSumOfClasses:
    pass


@pytest.mark.parametrize("implementation", ["factorized", "reconstructed", "auto"])
@pytest.mark.parametrize("name", SUMS)
@settings(max_examples=8, deadline=None)
@given(asked=requests())
def test_it_runs_as_the_dense_convolution_with_its_gradients(name, implementation, asked):
    layer = asked.layer(factorization=name, implementation=implementation, dtype=torch.float64)
    x = asked.input().requires_grad_()
    inputs = [x, *layer.parameters()]
    y, dense = layer(x), asked.dense(x, layer.weight.to_tensor(), layer.bias)
    towards = torch.ones_like(dense).cumsum(-1)
    for one, other in zip(
        (y, *torch.autograd.grad((y * towards).sum(), inputs, materialize_grads=True)),
        (dense, *torch.autograd.grad((dense * towards).sum(), inputs, materialize_grads=True)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(layer.eval()(x), dense, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(layer(x), dense, rtol=1e-9, atol=1e-9)


def planted(seed: int = 0) -> torch.Tensor:
    """Low rank in the channels, and a filter of its own for each channel."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).double()

    low = torch.einsum("or,ir,rhw->oihw", draw(16, 2), draw(16, 2), draw(2, 3, 3))
    diagonal = torch.diag_embed(draw(3, 3, 16)).permute(2, 3, 0, 1)
    return low / low.norm() + diagonal / diagonal.norm()


def test_a_sum_beats_each_of_its_terms_on_a_kernel_that_is_one():
    errors = {}
    for name in ("tucker", "depthwise_separable", "tucker+depthwise_separable"):
        made = decompose(planted(), rank=0.35, factorization=name)
        assert made.kernel.numel() <= 0.35 * 16 * 16 * 9
        errors[name] = made.error
    both = errors.pop("tucker+depthwise_separable")
    assert both < 0.9 * min(errors.values())


@pytest.mark.parametrize("name", SUMS)
@settings(max_examples=8, deadline=None)
@given(fraction=fractions(), groups=st.integers(1, 2))
def test_a_budget_is_spent_over_all_terms_together(name, fraction, groups):
    kernel = FactorizedKernel.new((16, 12, 3, 3), rank=fraction, factorization=name, groups=groups)
    terms = kernel.network.terms
    least = factorizations.choose(name).plugin.network((16, 12, 3, 3), 1, groups).numel
    assert kernel.numel() == sum(term.numel for term in terms)
    assert kernel.numel() == sum(p.numel() for p in kernel.parameters())
    assert kernel.numel() <= max(fraction * prod(kernel.shape), least)


@pytest.mark.parametrize("name", SUMS[:2])
def test_at_more_budget_the_error_is_not_larger(name):
    errors = [decompose(planted(1), rank=f, factorization=name).error for f in (0.2, 0.4, 0.7, 1.0)]
    assert all(more <= less + 0.02 for less, more in pairwise(errors))


@pytest.mark.parametrize("name", SUMS)
def test_the_realised_rank_asked_for_gives_the_same_layer_and_it_travels(name):
    torch.manual_seed(0)
    layer = FactorizedConv.from_conv(nn.Conv2d(8, 12, 3), rank=0.6, factorization=name)
    x = torch.randn(2, 8, 9, 9)
    y = layer(x)
    saved = io.BytesIO()
    torch.save(layer, saved)
    saved.seek(0)
    again = FactorizedConv(8, 12, (3, 3), rank=layer.rank, factorization=name)
    again.load_state_dict(layer.state_dict())
    for other in (
        again,
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(saved, weights_only=False),
    ):
        assert torch.equal(other(x), y)
        assert repr(other) == repr(layer)
    assert f"factorization={name!r}" in repr(layer)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", SUMS)
def test_it_leaves_as_plain_modules_and_exports(name, transposed):
    layer = FactorizedConv(
        8, 12, (3, 3), stride=2, padding=1, rank=0.6, factorization=name, transposed=transposed
    ).eval()
    x = torch.randn(2, 8, 9, 9)
    plain = to_plain(nn.Sequential(layer))
    assert all(type(one).__module__.startswith("torch") for one in plain.modules())
    for other in (plain, pickle.loads(pickle.dumps(plain)), layer.to_sequential(), layer.to_conv()):
        assert relative_error(layer(x), other(x)) < 1e-5
    exported = torch.export.export(layer, (x,)).module()
    assert relative_error(layer(x), exported(x)) < 1e-6
    assert layer.macs((9, 9)) > 0


def test_a_moment_lowers_the_error_of_the_output():
    torch.manual_seed(0)
    conv = nn.Conv2d(12, 16, 3)
    moment = Moment(conv)
    moment.update(torch.randn(40, 12, 8, 8).cumsum(1))
    errors = []
    for given_ in (moment, None):
        made = FactorizedConv.from_conv(conv, rank=0.4, factorization=SUMS[0], moment=given_)
        errors.append(moment.output_error(conv.weight, made.weight.to_tensor()))
    assert errors[0] < 0.9 * errors[1]


def test_it_is_given_by_class_too_and_takes_requests_of_every_kind():
    kernel = planted()
    both = Sum(terms=(factorizations["tucker"], factorizations["depthwise_separable"]))
    for rank in (2, Multiple(4, of=0.5), Error(0.3), (2, 3, 1)):
        by_class = FactorizedKernel.from_tensor(kernel, rank=rank, factorization=both)
        by_name = FactorizedKernel.from_tensor(kernel, rank=rank, factorization=SUMS[0])
        assert by_class.rank == by_name.rank
        assert relative_error(by_name.to_tensor(), by_class.to_tensor()) < 1e-6


def test_a_fresh_kernel_has_the_dense_variance():
    torch.manual_seed(0)
    made = FactorizedKernel.new((64, 64, 3, 3), rank=0.3, factorization=SUMS[0])
    assert 0.8 < float(made.to_tensor().detach().square().mean()) * 3 * 64 * 9 < 1.25


def test_what_cannot_be_added_is_refused():
    terms = [factorizations["cp"]().network(shape, 2) for shape in ((8, 4, 3), (8, 4, 5))]
    with pytest.raises(ValueError, match=r"of kernels .*\(8, 4, 5\).*: they must be of one"):
        KernelSum.of(terms)
    with pytest.raises(ValueError, match=r"'mobile' is not installed"):
        FactorizedConv(8, 8, (3, 3), factorization="tucker+mobile")
    with pytest.raises(ValueError, match="at least two formats"):
        Sum(terms=(factorizations["cp"],))
    with pytest.raises(ValueError, match="must have 3 numbers, of all terms"):
        FactorizedConv(8, 8, (3, 3), rank=(1, 2, 3, 4), factorization=SUMS[0])


def test_a_network_with_sums_is_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3))
    made = copy.deepcopy(net)
    made[2] = FactorizedConv.from_conv(net[2], rank=0.5, factorization=SUMS[0])
    save(made, tmp_path / "made")
    x = torch.randn(2, 3, 9, 9)
    assert torch.equal(load(tmp_path / "made", net)(x), made(x))


@pytest.mark.parametrize(("metric", "width", "groups"), [("macs", 64, 1), ("parameters", 16, 2)])
def test_compress_takes_sums_and_what_comes_is_saved_loaded_and_left(
    metric, width, groups, tmp_path
):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(4, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3, groups=groups)
    )
    batch = torch.randn(8, 4, 8, 8)

    def made():
        return compress(
            net,
            example_inputs=batch[:2],
            calibration=[batch],
            budget=0.7,
            metric=metric,
            factorizations=SUMS[0],
            never_slower=False,
            table=tmp_path / "table",
            progress=False,
        )

    small = made()
    found = [one for one in small.model.modules() if isinstance(one, FactorizedConv)]
    assert {layer.factorization for layer in found} == {SUMS[0]}
    cost = getattr(small.report, metric)
    assert cost.after <= 0.7 * cost.before
    assert SUMS[0] in small.report.to_json()
    y = small.model(batch)
    save(small, tmp_path / "made")
    assert torch.equal(load(tmp_path / "made", net)(batch), y)
    assert relative_error(y, to_plain(small.model)(batch)) < 1e-5
    assert torch.equal(made().model(batch), y)  # from the table


def test_compress_finds_that_a_kernel_is_a_sum():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 16, 3))
    net[0].weight.data = planted().float()
    batch = torch.randn(32, 16, 9, 9)
    errors = {}
    for formats in ("tucker", "depthwise_separable", SUMS[0], ("tucker", SUMS[0])):
        made = compress(
            net, example_inputs=batch[:2], calibration=[batch], budget=0.45, metric="parameters",
            factorizations=formats, multiple=1, never_slower=False, progress=False,
        )  # fmt: skip
        errors[formats] = relative_error(net(batch), made.model(batch))
    assert errors[SUMS[0]] < 0.8 * min(errors["tucker"], errors["depthwise_separable"])
    assert errors["tucker", SUMS[0]] <= 1.05 * errors[SUMS[0]]


def test_compress_measures_sums_of_wide_layers(monkeypatch):
    monkeypatch.setattr(norm, "LARGE", 64)  # rows from which a moment is in float32
    torch.manual_seed(0)
    net, batch = nn.Sequential(nn.Conv2d(16, 16, 3)), torch.randn(32, 16, 9, 9)
    made = compress(
        net, example_inputs=batch[:2], calibration=[batch], budget=0.45, metric="parameters",
        factorizations=SUMS[0], multiple=1, never_slower=False, progress=False,
    )  # fmt: skip
    assert made.report.layers[0].factorization == SUMS[0]
    assert made.report.error == pytest.approx(
        relative_error(net(batch), made.model(batch)), rel=0.2
    )
