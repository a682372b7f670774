"""Whoever is at fault is named: formats, implementations, plans and hooks."""

import sys
import traceback

import pytest
import torch
from torch import nn

from tenfold import (
    Energy,
    Error,
    Factorization,
    FactorizedConv,
    FactorizedKernel,
    Implementation,
    compress,
    hookimpl,
    relative_error,
    to_plain,
)
from tenfold.plugin import Plan, ask_hooks
from tenfold.plugin.hooks import plugin_manager

FORMATS, HOOKS = "tenfold.factorizations", "tenfold.hooks"
MODES = """
from tenfold import Factorization

class Wrong(Factorization):
    def factors(self, order, rank):
        return {0: [("in", "r"), ("s", "out"), ("r", "s", "t")],
                1: [("in", "in", "k0", "r"), ("r", "out")],
                2: [("in", "k0", "r"), ("r", "out")]}[order]

class Odd(Factorization):
    def factors(self, order, rank):
        return [("in", *(f"k{axis}" for axis in range(order)), "r"), ("r", "out")]

    def decompose(self, kernel, network, generator=None):
        return [factor[..., :1] for factor in super().decompose(kernel, network, generator)]
"""
HOOK = """
from tenfold import hookimpl

@hookimpl
def tenfold_rank(request):
    if request == "raise":
        raise LookupError("no table")
    return {"word": "half", "many": (1, 2, 3, 4, 5)}.get(request)

@hookimpl(wrapper=True)
def tenfold_decompose(network):
    factors = yield
    return factors[1:] if network.order == 1 else factors
"""
WHOSE = r"of acme-tools 0\.7 gave"


@pytest.fixture
def _acme(install):
    points = {FORMATS: {"wrong": "acme:Wrong", "odd": "acme:Odd"}, HOOKS: {"acme": "acme_hook"}}
    install("acme-tools", points, "0.7", acme=MODES, acme_hook=HOOK)


@pytest.fixture
def hook():
    """Register hook plugins in this process, until the test ends."""
    registered = []

    def register(plugin):
        plugin_manager().register(plugin)
        registered.append(plugin)

    yield register
    for one in registered:
        plugin_manager().unregister(one)


@pytest.mark.usefixtures("_acme")
class TestFormats:
    @pytest.mark.parametrize(
        ("order", "fault"),
        [(0, "'t' is in one factor only"), (1, "'in', .*twice"), (2, "open mode 'k1'")],
        ids=["dangling", "double", "missing"],
    )
    def test_wrong_modes_are_told_with_class_and_method(self, order, fault):
        with pytest.raises(ValueError, match=rf"Wrong\.factors\(\) {WHOSE} .*{fault}"):
            FactorizedConv(4, 8, (3,) * order, factorization="wrong", rank=2)

    def test_factors_of_other_shapes_are_told_with_class_and_method(self):
        with pytest.raises(RuntimeError, match=rf"Odd\.decompose\(\) {WHOSE} factors \[\(1, 4, 1"):
            FactorizedConv.from_conv(nn.Linear(4, 8), factorization="odd", rank=3)


@pytest.mark.usefixtures("_acme")
class TestHooks:
    ACME = r"plugin acme-tools 0\.7: acme = acme_hook"

    def test_a_result_that_a_hook_changed_is_the_hook_s(self):
        said = rf"the hook tenfold_decompose of the {self.ACME} gave factors"
        with pytest.raises(RuntimeError, match=said):
            FactorizedConv.from_conv(nn.Conv1d(4, 8, 3), factorization="tt", rank=3)

    def test_one_that_a_hook_passed_on_is_the_format_s(self):
        with pytest.raises(RuntimeError, match=r"^Odd\.decompose\(\)"):
            FactorizedConv.from_conv(nn.Linear(4, 8), factorization="odd", rank=3)

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has no notes")
    def test_an_error_of_a_hook_has_a_note(self):
        with pytest.raises(LookupError, match="no table") as fault:
            FactorizedConv(4, 8, (3,), rank="raise")
        text = "".join(traceback.format_exception(fault.value))
        said = "This is from the hook tenfold_rank of the plugin acme-tools 0.7: acme = acme_hook"
        assert text.count(said) == 1

    @pytest.mark.parametrize("request_", ["word", "many"])
    def test_an_answer_that_is_no_rank_is_told_with_whose_it_is(self, request_):
        said = rf"the hook tenfold_rank of the {self.ACME} answered rank='{request_}' with"
        with pytest.raises(ValueError, match=said):
            FactorizedConv(4, 8, (3,), rank=request_)


class Answers:
    def __init__(self, answer):
        self.answer = answer

    @hookimpl
    def tenfold_rank(self, request):
        return self.answer if request == "mine" else None

    @hookimpl
    def tenfold_select(self):
        return {"rank": "mine"}


class TestAnswers:
    @pytest.mark.parametrize("answer", [Error(0.3), Energy(0.9), "vbmf", "same"])
    def test_a_rank_rule_may_answer_what_from_conv_takes(self, hook, answer):
        conv = nn.Conv2d(6, 8, 3)
        hook(Answers(answer))
        made, wanted = (
            FactorizedConv.from_conv(conv, rank=rank, factorization="tucker")
            for rank in ("mine", answer)
        )
        assert made.rank == wanted.rank

    def test_a_rule_that_answers_itself_is_refused(self, hook):
        hook(Answers("mine"))
        with pytest.raises(ValueError, match="answered rank='mine' with 'mine', which was asked"):
            FactorizedConv(4, 8, (3,), rank="mine")

    @pytest.mark.parametrize("answer", [Error(0.9), "vbmf", 2])
    def test_a_selector_s_rank_may_be_any_too(self, hook, answer):
        hook(Answers(answer))
        small = compress(
            nn.Sequential(nn.Conv2d(6, 8, 3)),
            budget=0.9,
            example_inputs=torch.randn(2, 6, 6, 6),
            objective="energy",
            progress=False,
        )
        assert small.report.parameters.after > 0

    def test_a_selector_s_wrong_name_is_told_with_the_layer(self, hook):
        class Typo:
            @hookimpl
            def tenfold_select(self):
                return {"factorization": "tuker"}

        hook(Typo())
        with pytest.raises(ValueError, match=r"Typo\.tenfold_select.* layer '0': .*'tucker'"):
            squeeze()


class TestKernels:
    """What writes into the kernel that it was given is named, and the user's own stays."""

    def matrix(self, **methods):
        def factors(self, order, rank):
            return [("in", *(f"k{axis}" for axis in range(order)), "r"), ("r", "out")]

        return type("Writes", (Factorization,), {"factors": factors, **methods})

    def test_by_ranks(self):
        def ranks(self, shape, rank, kernel=None):
            if kernel is not None:
                kernel.mul_(2)
            return (2,)

        self.refused(self.matrix(ranks=ranks), r"Writes\.ranks\(\)")

    def test_by_decompose(self):
        def decompose(self, kernel, network, generator=None):
            kernel.zero_()
            return Factorization.decompose(self, kernel, network, generator)

        self.refused(self.matrix(decompose=decompose), r"Writes\.decompose\(\)")

    def test_by_a_hook(self, hook):
        class Writes:
            @hookimpl
            def tenfold_rank(self, kernel):
                kernel.mul_(2)
                return 2

        hook(Writes())
        self.refused("tt", r"the hook Writes\.tenfold_rank\(\)", rank="mine")

    @staticmethod
    def refused(format_, whose, rank=2):
        kernel = torch.randn(8, 4, 3, dtype=torch.float64)
        before = kernel.clone()
        with pytest.raises(RuntimeError, match=rf"{whose} wrote into the kernel.*clone"):
            FactorizedKernel.from_tensor(kernel, rank=rank, factorization=format_)
        assert torch.equal(kernel, before)


class Own(Plan):
    """A plan of its own code."""

    def __init__(self, network, geometry):
        self.network, self.geometry = network, geometry

    def __call__(self, x, factors, bias):
        g = self.geometry
        kernel = self.network.to_tensor(factors)
        return nn.functional.conv2d(x, kernel, bias, g.stride, g.padding, g.dilation)

    def prepare(self, factors, bias):
        return lambda x: self(x, factors, bias)


class Counted(Own):
    def macs(self, size):
        return 7

    def to_modules(self, factors, bias):
        kernel = self.network.to_tensor(factors)
        has = bias is not None
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], tuple(kernel.shape[2:]), bias=has)
        conv.weight, conv.bias = nn.Parameter(kernel), nn.Parameter(bias) if has else None
        return [conv]


class Nothing(Own):
    def __call__(self, x, factors, bias):
        return None


def way(answer):
    def plan(self, network, geometry):
        return answer(network, geometry)

    return type("Way", (Implementation,), {"plan": plan})


class TestPlans:
    @pytest.mark.parametrize("training", [True, False])
    @torch.no_grad()
    def test_one_that_gives_nothing_is_told(self, training):
        layer = FactorizedConv(4, 8, (3, 3), implementation=way(Nothing)).train(training)
        with pytest.raises(TypeError, match=r"plan Nothing that Way\.plan\(\) made gave None"):
            layer(torch.randn(1, 4, 5, 5))

    def test_a_partition_that_does_not_fit_is_told(self):
        overlapping = way(lambda *given: ((0, 1), (1, 2)))
        with pytest.raises(ValueError, match=r"^Way\.plan\(\) gave \(\(0, 1\), \(1, 2\)\): .*once"):
            FactorizedConv(4, 8, (3, 3), factorization="tucker", implementation=overlapping)

    def test_one_may_count_its_macs_and_spell_itself(self):
        layer = FactorizedConv(4, 8, (3, 3), implementation=way(Counted))
        x = torch.randn(2, 4, 6, 6)
        assert layer.macs((6, 6)) == 7
        assert relative_error(layer(x), layer.to_sequential()(x)) < 1e-6
        assert type(to_plain(nn.Sequential(layer))[0]) is nn.Sequential  # its own modules
        added = FactorizedConv(
            4, 8, (3, 3), factorization="tucker+cp", implementation=way(Counted), bias=False
        )
        assert added.macs((6, 6)) == 14
        assert relative_error(added(x), to_plain(added)(x)) < 1e-6
        plain = FactorizedConv(4, 8, (3, 3), implementation=way(Own))
        for refused in (lambda: plain.macs((6, 6)), plain.to_sequential):
            with pytest.raises(ValueError, match="implementation="):
                refused()
        assert type(to_plain(nn.Sequential(plain))[0]) is nn.Conv2d


def squeeze(**arguments):
    return compress(
        nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)),
        example_inputs=torch.randn(2, 8, 8, 8),
        **{"budget": 0.3, "objective": "energy", "progress": False, **arguments},
    )


class TestBudgets:
    """A budget that cannot be reached says of each layer who refused, and why."""

    @pytest.mark.parametrize(
        ("plan", "why"),
        [
            (lambda *given: ((0, 1), (1,)), r"run by broken: Way\.plan\(\) gave .* once"),
            (Own, "run by broken: its plan counts no MACs"),
        ],
        ids=["an overlapping partition", "no MACs"],
    )
    @pytest.mark.usefixtures("install")
    def test_what_refused_each_layer_is_told(self, plan, why):
        from tenfold import implementations

        implementations.register("broken", way(plan))
        said = rf"(?s)cannot be reached.*it was refused\n  0: tucker {why}.*\n  1: tucker "
        with pytest.raises(ValueError, match=said):
            squeeze(implementations=["broken"], factorizations=["tucker"])

    @pytest.mark.usefixtures("install")
    def test_of_a_latency_each_layer_says_what_refused_it_and_what_its_fastest_takes(self):
        from tenfold import implementations

        implementations.register("unable", way(lambda *given: ((0, 1), (1,))))
        said = (
            r"(?s)latency cannot be reached.*layer by layer\n  0: tucker run by unable: Way\.plan.*"
            r"; the fastest of \d+, tucker run by factorized, takes \d+\.\d\d of the dense.*\n  1: "
        )
        with pytest.raises(ValueError, match=said):
            squeeze(
                implementations=["unable", "factorized"],
                factorizations=["tucker"],
                metric="latency",
                budget=0.01,
            )

    @pytest.mark.usefixtures("install")
    def test_one_that_counts_is_a_candidate(self):
        from tenfold import implementations

        implementations.register("counted", way(Counted))
        small = squeeze(implementations=["counted"], factorizations=["tucker"])
        assert small.report.macs.after <= 0.3 * small.report.macs.before


class TestTold:
    def test_a_typo_in_tenfold_disable(self, install, monkeypatch):
        monkeypatch.setenv("TENFOLD_DISABLE", "acme:hook")
        with pytest.warns(RuntimeWarning, match="TENFOLD_DISABLE lists 'acme:hook', and no"):
            ask_hooks("tenfold_rank", request="x", shape=(), factorization=None, kernel=None)

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("def tenfold_rank(request):\n    return 2", r"tenfold_rank is not marked with @tenf"),
            ("def tenfold_rnak(request):\n    return 2", r"did you mean 'tenfold_rank'\?"),
            ("answer = 2", "has no hook: mark functions named tenfold_"),
        ],
        ids=["not marked", "misspelt", "none"],
    )
    def test_a_hook_module_that_has_no_hook(self, install, source, said):
        install("acme", {HOOKS: {"acme": "acme_hook"}}, acme_hook=source)
        with pytest.warns(RuntimeWarning, match=rf"acme 1\.2\.3: acme = .* is left out: .*{said}"):
            plugin_manager()


class Flavoured(Factorization):
    def __init__(self, flavour, *, sweet=True):
        object.__setattr__(self, "flavour", flavour)

    def factors(self, order, rank):
        return [("in", *(f"k{axis}" for axis in range(order)), "r"), ("r", "out")]


def test_a_format_with_a_constructor_of_its_own_compares_and_prints_by_its_options():
    one = Flavoured("a", sweet=False)
    assert repr(one) == "Flavoured('a', sweet=False)"
    assert one == Flavoured("a", sweet=False)
    assert hash(one) == hash(Flavoured("a", sweet=False))
    assert one not in (Flavoured("b", sweet=False), Flavoured("a"))


@pytest.mark.parametrize("wanted", [True, False])
def test_a_trace_has_each_call_its_time_and_what_it_gave(monkeypatch, capsys, hook, wanted):
    class Rank:
        @hookimpl
        def tenfold_rank(self, request):
            return 2

    hook(Rank())
    monkeypatch.setenv("TENFOLD_TRACE", "1" if wanted else "0")
    FactorizedConv.from_conv(nn.Conv1d(4, 8, 3), factorization="tucker", rank="mine")
    lines = capsys.readouterr().err.splitlines()
    calls = ["Tucker.factors()", "Tucker.ranks()", "Tucker.decompose()", "Factorized.plan()"]
    for call in [*calls, "the hook Rank.tenfold_rank()"]:
        assert wanted == any(line.startswith(f"tenfold: {call} took ") for line in lines), call
    if wanted:
        assert any(line.endswith("ms and gave 2") for line in lines)
        assert any("gave [float64(1, 8, 2), float64(1, 4, 2)" in line for line in lines)
    else:
        assert lines == []
