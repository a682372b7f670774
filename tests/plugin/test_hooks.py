"""The hooks: what a plugin may answer, how a bad one is left out, and none called in `forward`."""

import inspect
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, FactorizedKernel
from tenfold.model.replace import replace_convolutions, substitute
from tenfold.plugin.hooks import Specifications, plugin_hooks, plugin_manager

PLUGINS_PAGE = Path(__file__).parent.parent.parent / "docs" / "plugins.md"
SPECIFICATIONS = {
    name: function for name, function in vars(Specifications).items() if name.startswith("tenfold_")
}

HALF = """
from tenfold import hookimpl

seen = []

@hookimpl
def tenfold_rank(request, shape, factorization, kernel):
    seen.append((request, shape, type(factorization).__name__, kernel))
    return 0.5 if request == "half" else None
"""
SELECT = """
from tenfold import hookimpl

@hookimpl
def tenfold_select(name, module):
    return {"body.first": False, "body.second": {"rank": 1, "factorization": "tucker"}}.get(name)
"""
SKIP_THIRD = """
from tenfold import hookimpl

@hookimpl
def tenfold_select(name, module):
    return False if name == "body.third" else None
"""
COUNT = """
from tenfold import hookimpl

calls = []

@hookimpl(wrapper=True)
def tenfold_decompose(factorization, kernel, network, generator):
    calls.append((type(factorization).__name__, tuple(kernel.shape), float(kernel.norm())))
    return (yield)
"""
REPLACE = """
from tenfold import hookimpl

@hookimpl(wrapper=True)
def tenfold_decompose(network):
    factors = yield
    return [factor * 0 for factor in factors]
"""
CACHE = """
from tenfold import hookimpl

kept = {}

@hookimpl
def tenfold_decompose(factorization, kernel, network, generator):
    key = (repr(factorization), network.factors, kernel.numpy().tobytes())
    if key not in kept:
        kept[key] = factorization.decompose(kernel, network, generator)
    return kept[key]
"""
BROKEN = "raise OSError('no driver')"
UNKNOWN_HOOK = """
from tenfold import hookimpl

@hookimpl
def tenfold_rnak(request):
    return 1
"""
UNKNOWN_ARGUMENT = """
from tenfold import hookimpl

@hookimpl
def tenfold_rank(request, colour):
    return 1
"""


@pytest.fixture
def install_hooks(install):
    """Install one package with one hook module: `install_hooks(module=source)`."""

    def install_hooks(**modules):
        for name, source in modules.items():
            points = {"tenfold.hooks": {name: name}}
            install(name.replace("_", "-"), points, **{name: source})

    return install_hooks


def convert(conv, **request):
    return FactorizedConv.from_conv(conv, **{"rank": 2, "factorization": "tucker", **request})


class TestFaults:
    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            (BROKEN, "OSError: no driver"),
            (UNKNOWN_HOOK, "tenfold_rnak"),
            (UNKNOWN_ARGUMENT, "colour"),
        ],
        ids=["broken import", "unknown hook", "unknown argument"],
    )
    def test_a_bad_hook_plugin_gives_one_warning_and_the_others_work(
        self, install_hooks, source, reason
    ):
        install_hooks(acme_bad=source, acme_half=HALF)
        with pytest.warns(RuntimeWarning) as caught:
            made = [FactorizedConv(8, 8, (3, 3), rank="half") for _ in range(2)]
        assert made[1].weight.numel() <= 0.5 * 8 * 8 * 9
        assert len(caught) == 1
        for part in ("acme-bad 1.2.3", "acme_bad", "is left out", reason):
            assert part in str(caught[0].message)

    def test_two_bad_ones_give_a_warning_each(self, install_hooks):
        install_hooks(acme_bad=BROKEN, acme_worse=UNKNOWN_HOOK)
        with pytest.warns(RuntimeWarning) as caught:
            convert(nn.Conv2d(4, 4, 3))
        assert sorted(str(one.message).split()[3] for one in caught) == ["acme-bad", "acme-worse"]

    def test_a_plugin_left_out_answers_nothing(self, install_hooks):
        install_hooks(acme_bad=UNKNOWN_HOOK + HALF)
        with (
            pytest.warns(RuntimeWarning, match="acme-bad"),
            pytest.raises(ValueError, match="rank='half' is not understood"),
        ):
            FactorizedConv(8, 8, (3, 3), rank="half")

    @pytest.mark.parametrize("source", [BROKEN, HALF])
    def test_a_disabled_one_is_not_imported(self, install_hooks, monkeypatch, source):
        install_hooks(acme_hooks=source)
        monkeypatch.setenv("TENFOLD_DISABLE", "acme-hooks:acme_hooks")
        with pytest.raises(ValueError, match="rank='half' is not understood"):
            FactorizedConv(8, 8, (3, 3), rank="half")
        assert "acme_hooks" not in sys.modules


class TestRank:
    @pytest.fixture
    def asked(self, install_hooks):
        """What the hook was asked, call by call."""
        install_hooks(acme_half=HALF)
        plugin_manager()
        return sys.modules["acme_half"].seen

    def test_a_layer_made_from_scratch_asks_without_a_kernel(self, asked):
        made = FactorizedConv(8, 16, (3, 3), rank="half", groups=2, factorization="tucker")
        assert (
            made.rank
            == FactorizedConv(8, 16, (3, 3), rank=0.5, groups=2, factorization="tucker").rank
        )
        assert asked == [("half", (16, 4, 3, 3), "Tucker", None)]

    @pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
    def test_a_conversion_asks_with_the_kernel(self, asked, kind):
        conv = kind(8, 16, 3)
        made = convert(conv, rank="half")
        assert made.rank == convert(conv, rank=0.5).rank
        (((request, shape, name, kernel)),) = asked
        assert (request, shape, name) == ("half", (16, 8, 3, 3), "Tucker")
        weight = conv.weight if kind is nn.Conv2d else conv.weight.transpose(0, 1)
        assert torch.equal(kernel, weight[None].double())
        assert not kernel.requires_grad

    def test_the_kernel_comes_group_by_group(self, asked):
        conv = nn.Conv2d(8, 16, 3, groups=2)
        convert(conv, rank="half")
        _, shape, _, kernel = asked[0]
        assert (shape, tuple(kernel.shape)) == ((16, 4, 3, 3), (2, 8, 4, 3, 3))
        assert torch.equal(kernel.flatten(0, 1), conv.weight.double())

    def test_a_kernel_asks_too(self, asked):
        tensor = torch.randn(8, 8, 3)
        FactorizedKernel.new((8, 8, 3), rank="half")
        FactorizedKernel.from_tensor(tensor, rank="half")
        assert asked[0] == ("half", (8, 8, 3), "CP", None)
        assert torch.equal(asked[1][3], tensor[None].double())

    @pytest.mark.parametrize("rank", ["same", 0.3, 4, (3, 3)])
    def test_a_request_that_core_knows_is_not_asked_about(self, asked, rank):
        FactorizedConv(8, 8, (3, 3), rank=rank, factorization="tucker")
        assert asked == []

    @pytest.mark.parametrize("request_", ["third", "Same", None, object()])
    def test_a_request_that_nobody_knows_is_refused(self, asked, request_):
        for make in (
            lambda: FactorizedConv(8, 8, (3, 3), rank=request_),
            lambda: convert(nn.Conv2d(8, 8, 3), rank=request_),
        ):
            with pytest.raises(ValueError, match=r"rank=.* is not understood: it must be 'same'"):
                make()
        assert len(asked) == 2

    def test_the_rank_that_came_of_it_makes_the_same_shapes(self, asked):
        made = FactorizedConv(8, 8, (3, 3), rank="half", factorization="tt")
        again = FactorizedConv(8, 8, (3, 3), rank=made.rank, factorization="tt")
        again.load_state_dict(made.state_dict())
        assert len(asked) == 1


class TestDecompose:
    def test_a_wrapper_sees_every_decomposition(self, install_hooks):
        install_hooks(acme_count=COUNT)
        convert(nn.Conv2d(4, 6, 3))
        FactorizedKernel.from_tensor(torch.randn(6, 4, 3), rank=2)
        FactorizedConv(4, 6, (3, 3))  # drawn, not decomposed
        calls = sys.modules["acme_count"].calls
        assert [call[:2] for call in calls] == [("Tucker", (1, 6, 4, 3, 3)), ("CP", (1, 6, 4, 3))]
        assert [call[2] for call in calls] == pytest.approx([1, 1])

    def test_a_wrapper_may_replace_the_factors(self, install_hooks):
        install_hooks(acme_zero=REPLACE)
        assert not convert(nn.Conv2d(4, 6, 3)).weight.to_tensor().any()

    def test_a_plugin_may_keep_factors_and_save_the_work(self, install_hooks):
        install_hooks(acme_cache=CACHE)
        conv = nn.Conv2d(4, 6, 3)
        first = convert(conv, factorization="cp")
        second = convert(conv, factorization="cp")  # another random start, were it decomposed
        assert len(sys.modules["acme_cache"].kept) == 1
        for one, other in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(one, other)

    def test_factors_of_other_shapes_are_refused(self, install_hooks):
        install_hooks(acme_zero=REPLACE.replace("factor * 0", "factor[:, :1]"))
        with pytest.raises(RuntimeError, match="gave factors"):
            convert(nn.Conv2d(4, 6, 3))


class TestSelect:
    @pytest.fixture
    def model(self):
        names = ("first", "second", "third")
        return nn.ModuleDict({"body": nn.ModuleDict({name: nn.Conv2d(6, 6, 3) for name in names})})

    @staticmethod
    def replaced(model):
        names = [f"body.{name}" for name in ("first", "second", "third")]
        return replace_convolutions(model, names, rank=3, factorization="cp")

    def test_false_leaves_a_layer_dense(self, install_hooks, model):
        install_hooks(acme_select=SELECT)
        layers = self.replaced(model)
        assert set(layers) == {"body.second", "body.third"}
        assert isinstance(substitute(model, layers).get_submodule("body.first"), nn.Conv2d)

    def test_a_dict_overrides_the_model_wide_request(self, install_hooks, model):
        install_hooks(acme_select=SELECT)
        layers = self.replaced(model)
        asked = {name: (layer.factorization, layer.rank) for name, layer in layers.items()}
        assert asked == {"body.second": ("tucker", (1, 1)), "body.third": ("cp", 3)}

    def test_none_leaves_the_decision_to_others(self, install_hooks, model):
        install_hooks(acme_select=SELECT, bolt_select=SKIP_THIRD)
        assert set(self.replaced(model)) == {"body.second"}

    @pytest.mark.usefixtures("install")
    def test_without_a_hook_every_named_layer_is_replaced(self, model):
        assert [layer.rank for layer in self.replaced(model).values()] == [3, 3, 3]

    @pytest.mark.usefixtures("install")
    def test_the_model_is_left_alone_until_the_layers_are_substituted(self, model):
        layers = self.replaced(model)
        assert all(isinstance(model.get_submodule(name), nn.Conv2d) for name in layers)
        substitute(model, layers)
        assert all(model.get_submodule(name) is layer for name, layer in layers.items())


@pytest.mark.parametrize("training", [True, False])
def test_no_hook_is_called_in_forward(install_hooks, training):
    install_hooks(acme_half=HALF, acme_count=COUNT)
    called = []
    stop = plugin_manager().add_hookcall_monitoring(
        lambda name, implementations, arguments: called.append(name),
        lambda outcome, name, implementations, arguments: None,
    )
    made = convert(nn.Conv2d(4, 6, 3), rank="half").train(training)
    assert called == ["tenfold_rank", "tenfold_decompose"]
    called.clear()
    made(torch.randn(2, 4, 5, 5)).sum().backward()
    made.weight.to_tensor()
    assert called == []
    stop()


def test_the_hooks_of_the_manager_are_those_that_are_specified():
    assert {name for name in dir(plugin_hooks()) if name.startswith("tenfold_")} == set(
        SPECIFICATIONS
    )


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_a_hook_is_documented_with_its_signature(name):
    arguments = list(inspect.signature(SPECIFICATIONS[name]).parameters)[1:]
    assert f"def {name}({', '.join(arguments)})" in PLUGINS_PAGE.read_text().splitlines()
