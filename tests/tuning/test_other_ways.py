"""What `auto` measures besides partitions: sums, and code of an implementation's own."""

import json
import pickle

import pytest
import torch
from torch import nn

from tenfold import (
    Decision,
    FactorizedConv,
    Fixed,
    Implementation,
    implementations,
    load,
    relative_error,
    save,
    to_plain,
)
from tenfold.plugin import Plan
from tenfold_plugins.auto import Auto

SUM = "tucker+depthwise_separable"


@pytest.fixture(autouse=True)
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TENFOLD_CACHE", str(tmp_path / "cache"))


def sum_layer(**arguments):
    torch.manual_seed(0)
    return FactorizedConv(8, 12, (3, 3), rank=0.4, factorization=SUM, **arguments).eval()


def test_terms_that_are_whole_kernels_are_one_dense_convolution():
    layer = sum_layer(implementation="reconstructed")
    x = torch.randn(2, 8, 7, 7)
    assert layer.macs((7, 7)) == 12 * 8 * 9 * 25
    [conv] = layer.to_sequential()
    assert relative_error(layer.to_conv()(x), conv(x)) < 1e-6
    with torch.no_grad():
        assert relative_error(conv(x), layer(x)) < 1e-6
    mixed = sum_layer(implementation=Fixed(((0, 1, 2), (3,), (4,))))  # one whole, one not
    assert relative_error(mixed.to_conv()(x), mixed(x)) < 1e-6
    three = FactorizedConv(
        8, 12, (3, 3), rank=0.5, factorization="cp+tucker+tt", implementation=TwoWhole
    )
    assert relative_error(three.to_conv()(x), three(x)) < 1e-6
    assert relative_error(three.to_conv()(x), to_plain(three)(x)) < 1e-6
    assert len(three.plan.plans) == 2


class TwoWhole(Implementation):
    """CP factor by factor, others whole."""

    def plan(self, network, geometry):
        if len(network.bonds) == 1:
            return implementations["factorized"]().plan(network, geometry)
        return (tuple(range(len(network.factors))),)


def test_a_sum_is_measured_dense_too_and_runs_as_decided(tmp_path):
    layer = sum_layer(implementation="auto")
    x = torch.randn(2, 8, 9, 9)
    wanted = layer.to_conv()(x)
    decision = layer.tune(x)
    ways = {one.partition for one in decision.measured}
    assert ((0, 1, 2, 3, 4),) in ways  # one dense convolution
    assert any(len(way) > 2 for way in ways)
    for way in ways:
        layer.fix_plan(json.loads(json.dumps({"partition": way})))
        with torch.no_grad():
            assert relative_error(wanted, layer(x)) < 1e-5
    layer.fix_plan(decision)
    remade = pickle.loads(pickle.dumps(layer))
    assert repr(remade) == repr(layer)
    assert relative_error(wanted, remade(x)) < 1e-5
    net = nn.Sequential(layer.to_conv())
    save(nn.Sequential(layer), tmp_path / "made")
    loaded = load(tmp_path / "made", net)[0]
    assert loaded.decision == decision


def test_a_group_of_several_terms_is_refused():
    with pytest.raises(ValueError, match="a group of factors of several terms"):
        sum_layer(implementation=Fixed(((0, 1), (2, 3), (4,))))


class Own(Plan):
    """One dense convolution, by code of its own, that counts half of what it does."""

    share = 0.5

    def __init__(self, network, geometry):
        self.network, self.geometry = network, geometry

    def __call__(self, x, factors, bias):
        kernel, g = self.network.to_tensor(factors), self.geometry
        return nn.functional.conv2d(x, kernel, bias, g.stride, g.padding, g.dilation)

    def prepare(self, factors, bias):
        return lambda x: self(x, factors, bias)

    def macs(self, size):
        whole = torch.Size(self.network.shape).numel()
        positions = torch.Size(self.geometry.output_size(size)).numel()
        return int(self.share * whole * positions)


class Costly(Own):
    share = 2.0


class Mute(Own):
    def macs(self, size):
        return None


def way(plan, refuses=False):
    def made(self, network, geometry):
        if refuses:
            raise ValueError("it takes nothing: use 'factorized'")
        return plan(network, geometry)

    return type("Way", (Implementation,), {"plan": made})


WAYS = {
    "own_way": way(Own),
    "costly_way": way(Costly),
    "mute_way": way(Mute),
    "no_way": way(Own, refuses=True),
}


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(implementations, "_registered", dict(WAYS))


@pytest.mark.usefixtures("registered")
def test_code_of_its_own_is_measured_where_it_counts_fewer_than_dense():
    auto = Auto(others=tuple(WAYS))
    layer = FactorizedConv(8, 12, (3, 3), rank=0.4, implementation=auto).eval()
    x = torch.randn(2, 8, 9, 9)
    decision = layer.tune(x)
    assert {one.implementation for one in decision.measured} == {None, "own_way"}
    assert "own_way" in str(decision)
    layer.fix_plan({"implementation": "own_way"})
    assert isinstance(layer.plan, Own)
    assert relative_error(layer.to_conv()(x), layer(x)) < 1e-6
    assert repr(layer).endswith("implementation='own_way')")


def test_a_large_kernel_is_measured_by_fft_too_and_its_decision_travels(tmp_path):
    layer = FactorizedConv(4, 4, (13,), padding=6, rank=2, implementation="auto").eval()
    x = torch.randn(1, 4, 200)
    decision = layer.tune(x)
    small = FactorizedConv(4, 4, (3,), padding=1, rank=2, implementation="auto").eval().tune(x)
    assert "fft" not in {one.implementation for one in small.measured}
    layer.fix_plan(Decision(implementation="fft", measured=decision.measured))
    assert relative_error(layer.to_conv()(x), layer(x)) < 1e-5
    save(nn.Sequential(layer), tmp_path / "made")
    made = json.loads((tmp_path / "made" / "tenfold.json").read_text())
    assert "implementation fft" in made["plugins"]
    loaded = load(tmp_path / "made", nn.Sequential(layer.to_conv()))[0]
    assert torch.equal(loaded(x), layer(x))


def test_fft_counts_fewer_than_dense_where_the_kernel_is_large_and_more_where_it_is_small():
    counts = {}
    for size in (3, 31):
        for way in ("fft", "reconstructed"):
            layer = FactorizedConv(
                32, 32, (size, size), padding=size // 2, groups=32, implementation=way
            )
            counts[size, way] = layer.macs((64, 64))
    assert counts[31, "fft"] < 0.5 * counts[31, "reconstructed"]
    assert counts[3, "fft"] > counts[3, "reconstructed"]


def test_a_decision_is_one_way():
    for data in ({}, {"partition": [[0]], "implementation": "fft"}):
        with pytest.raises(ValueError, match=r"give a partition, as .* or the name"):
            sum_layer().fix_plan(data)
