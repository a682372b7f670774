"""Faulty plugins: their errors and their answers are told with whose they are."""

import sys
import traceback

import pytest
import torch
from torch import nn

from tenfold import (
    Factorization,
    FactorizedConv,
    FactorizedKernel,
    Implementation,
    compress,
    hookimpl,
)
from tenfold.compression.running import prepared
from tenfold.plugin import Plan
from tenfold.plugin.hooks import plugin_manager

FORMATS, WAYS = "tenfold.factorizations", "tenfold.implementations"
PLACES = "tenfold.runtimes"
FAULTY = """
from tenfold import Factorization, Implementation, Runtime

class Faulty(Factorization):
    def factors(self, order, rank):
        if order == 1:
            raise LookupError("no table")
        return [("out", "r"), ("r", "in", *(f"k{axis}" for axis in range(order)))]

    def ranks(self, shape, rank, kernel=None):
        if rank == 3:
            raise ValueError("rank=3 is unlucky: ask for 4")
        return super().ranks(shape, rank, kernel)

    def decompose(self, kernel, network, generator=None):
        return {}["factors"]

class Stuck(Implementation):
    def plan(self, network, geometry):
        raise OSError("no kernel was built")

class Far(Runtime):
    def prepare(self, module, example):
        raise ConnectionError("no phone is there")
"""
SAYS = "This is from the plugin acme-tools 0.7: {} = acme:{}"
CALLS = {
    "factors": (lambda: made((3,)), LookupError, SAYS.format("faulty", "Faulty")),
    "ranks": (lambda: made((3, 3), rank=3), ValueError, SAYS.format("faulty", "Faulty")),
    "a kernel": (
        lambda: FactorizedKernel.new((8, 4, 3), factorization="faulty"),
        LookupError,
        SAYS.format("faulty", "Faulty"),
    ),
    "decompose": (
        lambda: FactorizedConv.from_conv(nn.Conv2d(4, 8, 3), factorization="faulty", rank=2),
        KeyError,
        SAYS.format("faulty", "Faulty"),
    ),
    "plan": (
        lambda: FactorizedConv(4, 8, (3, 3), implementation="stuck"),
        OSError,
        SAYS.format("stuck", "Stuck"),
    ),
    "prepare": (
        lambda: prepared("far", nn.Conv2d(4, 8, 3), torch.ones(1, 4, 5, 5)),
        ConnectionError,
        SAYS.format("far", "Far"),
    ),
}


def made(kernel_size, **arguments):
    return FactorizedConv(4, 8, kernel_size, factorization="faulty", **arguments)


def raised(call, error):
    with pytest.raises(error) as found:
        call()
    assert type(found.value) is error
    return found.value


@pytest.fixture
def _faulty(install):
    points = {
        FORMATS: {"faulty": "acme:Faulty"},
        WAYS: {"stuck": "acme:Stuck"},
        PLACES: {"far": "acme:Far"},
    }
    install("acme-tools", points, "0.7", acme=FAULTY)


@pytest.mark.usefixtures("_faulty")
@pytest.mark.parametrize("name", CALLS)
def test_it_names_the_distribution_the_version_and_the_target_once(name):
    call, error, says = CALLS[name]
    fault = raised(call, error)
    if sys.version_info >= (3, 11):  # where Python has notes
        assert "".join(traceback.format_exception(fault)).count(says) == 1


def test_our_own_refusals_and_a_class_of_the_user_s_get_no_note():
    class Own(Factorization):
        def factors(self, order, rank):
            raise LookupError("mine")

    own = raised(lambda: FactorizedConv(4, 8, (3, 3), factorization=Own), LookupError)
    ours = raised(lambda: FactorizedConv(4, 8, (3, 3), rank=(1, 2, 3)), ValueError)
    assert [getattr(fault, "__notes__", []) for fault in (own, ours)] == [[], []]


def matrix(self, order, rank):
    return [("out", "r"), ("r", "in", *(f"k{axis}" for axis in range(order)))]


NAMES = {
    "gave None, not tuples of names": None,
    r"gave \['out r', 'r in'\], not tuples of names": ["out r", "r in"],
    "gave <generator .* not tuples of names": (one for one in "ab"),
    r"gave \[\('out', 1\), .* not tuples of names": [("out", 1), (1, "in", "k0", "k1")],
    "names a bond 'group' at order 2: .* something else": [
        ("out", "group"),
        ("group", "in", "k0", "k1"),
    ],
    "names a bond 'k2' at order 2": [("out", "k2"), ("k2", "in", "k0", "k1")],
}


@pytest.mark.parametrize("message", NAMES)
def test_factors_that_are_no_tuples_of_names_are_refused(message):
    faulty = type("Faulty", (Factorization,), {"factors": lambda *given: NAMES[message]})
    with pytest.raises((TypeError, ValueError), match=rf"Faulty\.factors\(\) {message}"):
        FactorizedConv(4, 8, (3, 3), rank=2, factorization=faulty)


MEANS = {
    r"widths\(\) gave \{'s': 2\}: it must map some of its bonds \('r',\)": {"widths": {"s": 2}},
    r"widths\(\) gave \{'r': 0\}": {"widths": {"r": 0}},
    r"widths\(\) gave \['r'\]": {"widths": ["r"]},
    r"splits\(\) gave \{'r': \(1, 2\)\}: it must map some of": {"splits": {"r": (1, 2)}},
    r"splits\(\) gave \{'k2': \(1, 3\)\}": {"splits": {"k2": (1, 3)}},
    r"splits\(\) gave \(2, 2\) for 'k0'.* product is 3": {"splits": {"k0": (2, 2)}},
    r"splits\(\) gave \(1.5, 2\) for 'k0'": {"splits": {"k0": (1.5, 2)}},
    r"splits\(\) gave 'in' for": {"splits": {"in": "in"}},
    r"factors\(\) names 'k0', which its splits\(\) part: the modes are k0.0, k0.1": {
        "splits": {"k0": (1, 3)}
    },
    r"constant\(\) for \('out', 'r'\) must give values of shape \(8, 2\), not \(1,\)": {
        "constant": torch.ones(1)
    },
    r"constant\(\) for \('out', 'r'\) must give values .* not 1": {"constant": 1},
    r"factors\(\) gave .*: every factor is constant": {"constant": torch.ones(8, 2), "every": True},
}


@pytest.mark.parametrize("message", MEANS)
def test_what_the_other_methods_give_is_checked_and_told(message):
    given = dict(MEANS[message])
    every = given.pop("every", False)
    [(name, value)] = given.items()

    def answer(self, *arguments):
        return value if name != "constant" or every or "out" in arguments[0] else None

    faulty = type("Faulty", (Factorization,), {"factors": matrix, name: answer})
    with pytest.raises(ValueError, match=rf"Faulty\.{message}"):
        FactorizedConv(4, 8, (3, 3), rank=2, factorization=faulty)


@pytest.mark.parametrize("ranks", [2, None, (), (2, 2), (0,), (-1,), (2.0,), ("a",), (True,)])
def test_ranks_that_are_no_tuple_of_sizes_are_refused(ranks):
    methods = {"factors": matrix, "ranks": lambda *given, **named: ranks}
    faulty = type("Faulty", (Factorization,), methods)
    with pytest.raises(ValueError, match=r"Faulty\.ranks\(\) gave .* each bond of \('r',\)"):
        FactorizedConv(4, 8, (3, 3), rank=2, factorization=faulty)


GIVEN = {
    "gave None, not a list": lambda shapes: None,
    "gave 3, not a list": lambda shapes: 3,
    r"gave \['list', 'list'\], not a list of floating": lambda shapes: [[0.0], [1.0]],
    r"gave \['torch.int64', 'torch.int64'\], not a list of floating": lambda shapes: [
        torch.ones(shape, dtype=torch.int64) for shape in shapes
    ],
    r"gave factors \[\(1, 8, 2\)\], not": lambda shapes: [torch.ones(shapes[0])],
    "not finite": lambda shapes: [torch.full(shape, torch.nan) for shape in shapes],
}


@pytest.mark.parametrize("message", GIVEN)
def test_factors_that_are_no_tensors_of_the_network_are_refused(message):
    def decompose(self, kernel, network, generator=None):
        return GIVEN[message](network.shapes)

    faulty = type("Faulty", (Factorization,), {"factors": matrix, "decompose": decompose})
    with pytest.raises(
        RuntimeError, match=rf"Faulty\.decompose\(\) gave.*{message.removeprefix('gave')}"
    ):
        FactorizedConv.from_conv(nn.Conv2d(4, 8, 3), rank=2, factorization=faulty)


@pytest.mark.parametrize(
    "answer", [None, (0, 1, 2), "01", (("0",),), iter(((0,),)), Plan, 5, ((0.0,),)]
)
def test_a_plan_that_is_neither_partition_nor_callable_is_refused(answer):
    faulty = type("Faulty", (Implementation,), {"plan": lambda *given: answer})
    with pytest.raises(TypeError, match=r"Faulty\.plan\(\) gave .*neither a partition.*nor"):
        FactorizedConv(4, 8, (3, 3), rank=2, implementation=faulty)


@pytest.mark.parametrize("answer", [(), ((0, 1),), ((0, 1, 2), ()), ((0, 1), (1, 2)), ((0, 1, 3),)])
def test_a_partition_that_does_not_hold_each_factor_once_is_refused(answer):
    faulty = type("Faulty", (Implementation,), {"plan": lambda *given: answer})
    with pytest.raises(ValueError, match="must hold each of the 3 factors once, in groups of at"):
        FactorizedConv(4, 8, (3, 3), rank=2, factorization="tucker", implementation=faulty)


def test_a_memory_format_that_is_none_is_refused():
    faulty = type(
        "Faulty", (Implementation,), {"plan": lambda *given: ((0, 1),), "memory_format": "nhwc"}
    )
    with pytest.raises(ValueError, match=r"memory_format='nhwc' must be .*'channels_last'"):
        FactorizedConv(4, 8, (3, 3), rank=2, implementation=faulty)


class Answers:
    """A hook plugin that gives the same answer to everything."""

    def __init__(self, answer):
        self.answer = answer

    @hookimpl
    def tenfold_rank(self, request):
        return self.answer if request == "mine" else None

    @hookimpl
    def tenfold_select(self):
        return self.answer


@pytest.fixture
def answers():
    registered = []

    def register(answer):
        registered.append(Answers(answer))
        plugin_manager().register(registered[-1])

    yield register
    for one in registered:
        plugin_manager().unregister(one)


@pytest.mark.parametrize("answer", ["half", -1, float("nan"), object(), (1, 2, 3)])
def test_a_rank_hook_s_answer_is_told_with_what_was_asked(answers, answer):
    answers(answer)
    said = r"the hook Answers\.tenfold_rank\(\) answered rank='mine' with "
    with pytest.raises(ValueError, match=said):
        FactorizedConv(4, 8, (3, 3), rank="mine")


@pytest.mark.parametrize("answer", ["yes", ["cp"], 3])
def test_a_select_hook_s_answer_is_told_with_the_layer(answers, answer):
    answers(answer)
    with pytest.raises(
        TypeError, match=r"tenfold_select\(\) answered .* for layer '0': it must be False, None"
    ):
        compress(
            nn.Sequential(nn.Conv2d(4, 8, 3)),
            budget=0.5,
            example_inputs=torch.ones(1, 4, 8, 8),
            progress=False,
        )


@pytest.mark.parametrize("bond", ["batch", "f0", "the", "x", "layer"])
@pytest.mark.parametrize("run", ["factorized", "fft", "reconstructed"])
def test_any_other_name_is_a_bond_s(bond, run):
    methods = {"factors": lambda *given: [("out", bond), (bond, "in", "k0")]}
    format_ = type("Named", (Factorization,), methods)
    layer = FactorizedConv(4, 8, (3,), rank=2, factorization=format_, implementation=run)
    x = torch.randn(2, 4, 9)
    assert torch.allclose(layer(x), layer.to_conv()(x), atol=1e-5)
