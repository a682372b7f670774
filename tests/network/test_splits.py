"""Open modes in several parts: Kronecker products, tensor-train matrices, linear layers too."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tenfold import (
    Factorization,
    FactorizedConv,
    FactorizedKernel,
    Implementation,
    Moment,
    compress,
    implementations,
    load,
    relative_error,
    save,
    to_plain,
)
from tenfold.network import Geometry, balanced, partition_macs
from tenfold.testing import conformance, requests

NAMES = ("kronecker", "tt_matrix")


class ATrous(Factorization):
    """A train whose space is split too: two convolutions an axis, the first of them dilated."""

    def factors(self, order, rank):
        opens = ["in", *(f"k{axis}.{part}" for axis in range(order) for part in (0, 1)), "out"]
        bonds = [f"b{place}" for place in range(len(opens) - 1)]
        ends = [(), *((bond,) for bond in bonds)], [*((bond,) for bond in bonds), ()]
        return [(*a, mode, *b) for a, mode, b in zip(ends[0], opens, ends[1], strict=True)]

    def splits(self, shape):
        return {f"k{axis}": balanced(size, 2) for axis, size in enumerate(shape[2:])}


class Scattered(Factorization):
    """Three parts of an axis, of which the first factor has the last, and one of them is 1."""

    def factors(self, order, rank):
        space = [f"k{axis}" for axis in range(1, order)]
        middle = [("r", "k0.0", "s"), ("k0.1", "s", *space, "t")] if order else [("r", "t")]
        return [("in", *(["k0.2"] if order else []), "r"), *middle, ("t", "out")]

    def splits(self, shape):
        return {"k0": (1, *balanced(shape[2], 2))} if len(shape) > 2 else {}


class OneByOne(Implementation):
    def plan(self, network, geometry):
        return tuple((index,) for index in range(len(network.factors)))


@conformance(factorization=ATrous, max_examples=4)
class TestATrous:
    pass


class Monarch(Factorization):
    """Two block-diagonal matrices with the parts transposed between them (Dao et al. 2022, arXiv
    2204.00595); it has groups of its own, as modes that both sides have."""

    def factors(self, order, rank):
        space = [f"k{axis}" for axis in range(order)]
        return [("in.0", "in.1", *space, "b"), ("in.0", "b", "out.0", "out.1")]

    def splits(self, shape):
        return {"out": balanced(shape[0], 2), "in": balanced(shape[1], 2)}


@conformance(factorization=Monarch, max_examples=4)
class TestMonarch:
    pass


class Halving(Factorization):
    """As many factors of the output as it has factors of two."""

    def factors(self, order, rank):
        return self.factors_for((2, 2) + (1,) * order, rank)

    def factors_for(self, shape, rank):
        space = [f"k{axis}" for axis in range(len(shape) - 2)]
        last = len(self.splits(shape)["out"]) - 1
        cores = [(f"b{i}", f"out.{i}", f"b{i + 1}") for i in range(last)]
        return [("in", *space, "b0"), *cores, (f"b{last}", f"out.{last}")]

    def splits(self, shape):
        twos = (shape[0] & -shape[0]).bit_length() - 1
        return {"out": (*(2,) * twos, shape[0] >> twos)}


@conformance(factorization=Halving, max_examples=4)
class TestHalving:
    pass


@pytest.mark.parametrize(("out", "count"), [(6, 3), (8, 5), (16, 6)])
def test_the_number_of_factors_may_depend_on_the_channels(out, count):
    conv = nn.Conv2d(4, out, 3, padding=1)
    layer = FactorizedConv.from_conv(conv, rank=10**6, factorization=Halving)
    assert len(layer.weight.factors) == count
    assert relative_error(conv.weight, layer.weight.to_tensor()) < 1e-5
    half = FactorizedConv(4, out, 3, order=2, rank=0.5, factorization=Halving)
    assert sum(one.numel() for one in half.weight.factors) <= out * 4 * 9 / 2


def layer_of(asked, **pair):
    """The layer; None where the implementation refuses it."""
    try:
        return asked.layer(**pair, dtype=torch.float64)
    except ValueError as refusal:
        if "cannot run" in str(refusal):
            return None
        raise


@pytest.mark.parametrize("name", [*NAMES, ATrous, Scattered])
@settings(max_examples=15, deadline=None)
@given(asked=requests())
def test_every_way_of_running_is_the_dense_convolution(name, asked):
    x = asked.input()
    for way in [*implementations.names(), OneByOne]:
        layer = layer_of(asked, factorization=name, implementation=way)
        if layer is None:
            continue
        dense = asked.dense(x, layer.weight.to_tensor(), layer.bias)
        assert relative_error(dense, layer(x)) < 1e-12 or dense.norm() == 0
        assert relative_error(dense, layer.eval()(x)) < 1e-12 or dense.norm() == 0


@pytest.mark.parametrize("transposed", [False, True])
def test_space_in_parts_is_a_chain_of_dilated_convolutions(transposed):
    pair = {"factorization": ATrous, "implementation": OneByOne}
    layer = FactorizedConv(4, 6, (9,), 2, 3, rank=2, transposed=transposed, **pair)
    chain = layer.to_sequential()
    there = [(c.kernel_size[0], c.dilation[0], c.stride[0], c.padding[0]) for c in chain[1:3]]
    ends = ((3, 3, 2, 0), (3, 1, 1, 3)) if transposed else ((3, 3, 1, 3), (3, 1, 2, 0))
    assert there == list(ends)
    x = torch.randn(2, 4, 12)
    assert relative_error(layer.to_conv()(x), layer(x)) < 1e-5
    assert relative_error(layer.to_conv()(x), chain(x)) < 1e-5
    if transposed:
        wanted = layer.to_conv()(x, output_size=[26])
        assert relative_error(wanted, layer(x, output_size=[26])) < 1e-5


def test_parts_that_are_no_neighbours_are_not_one_convolution():
    network = FactorizedKernel.new((4, 4, 8), rank=2, factorization=Scattered).network
    geometry = Geometry((8,), (1,), (0,), (1,), (0,))
    assert partition_macs(network, ((0, 1), (2,), (3,)), geometry) is None
    assert partition_macs(network, ((0, 2), (1,), (3,)), geometry) is not None


def test_a_kronecker_kernel_is_a_sum_of_kronecker_products():
    made = FactorizedKernel.new((6, 10), rank=2, factorization="kronecker")
    first, second = made.factors
    products = [torch.kron(first[..., r], second[r]) for r in range(2)]
    assert relative_error(sum(products), made.to_tensor()) < 1e-6


def test_a_planted_kronecker_product_comes_back():
    planted = torch.kron(torch.randn(8, 6).double(), torch.randn(8, 8).double())
    made = FactorizedKernel.from_tensor(planted, rank=1, factorization="kronecker")
    assert relative_error(planted, made.to_tensor()) < 1e-12


def test_a_linear_layer_is_tensorized():
    layer = FactorizedConv(512, 768, (), rank=(8, 8), factorization="tt_matrix")
    sizes = layer.weight.network.sizes
    assert [sizes[f"in.{part}"] for part in range(3)] == [8, 8, 8]
    assert layer.weight.numel() < 0.02 * 512 * 768
    x = torch.randn(5, 512)
    assert relative_error(layer.to_conv()(x), layer(x)) < 1e-5
    assert relative_error(layer.to_sequential()(x), layer(x)) < 1e-5


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", [*NAMES, ATrous])
def test_a_moment_lowers_the_error_of_the_output(name, groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(12, 16, 3, groups=groups)
    moment = Moment(conv)
    moment.update(torch.randn(40, 12, 8, 8).cumsum(1))
    errors = []
    for given_ in (moment, None):
        made = FactorizedConv.from_conv(conv, rank=0.5, factorization=name, moment=given_)
        errors.append(moment.output_error(conv.weight, made.weight.to_tensor()))
    assert errors[0] < 0.95 * errors[1]


@pytest.mark.parametrize("name", NAMES)
def test_compress_saves_loads_and_leaves_them(name, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3))
    batch = torch.randn(16, 3, 8, 8)
    made = compress(
        net,
        example_inputs=batch[:2],
        calibration=[batch],
        budget=0.7,
        metric="parameters",
        factorizations=[name],
        progress=False,
        never_slower=False,
    )
    assert any(isinstance(one, FactorizedConv) for one in made.model.modules())
    save(made, tmp_path / "made")
    y = made.model.eval()(batch)
    assert torch.equal(load(tmp_path / "made", net).eval()(batch), y)
    assert relative_error(y, to_plain(made.model)(batch)) < 1e-5


class Uneven(Factorization):
    def factors(self, order, rank):
        return [("out.0", "in", "r"), ("out.1", "r")]

    def splits(self, shape):
        return {"out": (3, shape[0])}


def test_a_split_that_is_no_product_is_refused_by_name():
    with pytest.raises(ValueError, match=r"Uneven\.splits\(\) gave \(3, 8\) for 'out'.*is 8"):
        FactorizedConv(4, 8, (), rank=1, factorization=Uneven)


class Between(Factorization):
    """A bond as wide as the kernel, whatever the budget."""

    def factors(self, order, rank):
        return [("in", "k0", "w"), ("w", "r"), ("r", "out")]

    def widths(self, sizes):
        return {"w": sizes["k0"]}


@given(rank=st.one_of(st.floats(0.1, 1.0), st.integers(1, 9)))
@settings(max_examples=10, deadline=None)
def test_a_bond_of_a_fixed_size_stays_so_and_the_budget_goes_to_the_others(rank):
    made = FactorizedKernel.new((12, 8, 3), rank=rank, factorization=Between)
    assert made.network.sizes["w"] == 3
    again = FactorizedKernel.new((12, 8, 3), rank=made.rank, factorization=Between)
    assert again.network == made.network
    if isinstance(rank, float) and made.network.sizes["r"] > 1:
        assert made.numel() <= rank * 12 * 8 * 3


def test_more_parts_than_channels_are_ones():
    assert balanced(7, 3) == (1, 1, 7)
    layer = FactorizedConv(7, 1, (3,), rank=2, factorization="tt_matrix")
    x = torch.randn(2, 7, 9)
    assert relative_error(layer.to_conv()(x), layer(x)) < 1e-5
