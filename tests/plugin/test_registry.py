"""The registries: names from installed packages, found without importing and faulted by name."""

import sys

import pytest
import torch

from tenfold import (
    Factorization,
    FactorizedConv,
    Implementation,
    PluginError,
    factorizations,
    implementations,
    runtimes,
)

FORMATS, WAYS = "tenfold.factorizations", "tenfold.implementations"
MATRIX = """
from tenfold import Factorization

class Matrix(Factorization):
    def factors(self, order, rank):
        return [("out", "r"), ("r", "in", *(f"k{axis}" for axis in range(order)))]
"""
STACKED = """
from tenfold import Implementation

class Stacked(Implementation):
    def plan(self, network, geometry):
        return (tuple(range(len(network.factors))),)
"""


class Column(Factorization):
    """A matrix whose rows are the output channels."""

    def factors(self, order, rank):
        return [("out", "r"), ("r", "in", *(f"k{axis}" for axis in range(order)))]


class Whole(Implementation):
    """All factors at once."""

    def plan(self, network, geometry):
        return (tuple(range(len(network.factors))),)


class Half(Factorization):
    """A format that lacks its one method."""


class Flavoured(Column):
    """A format with a constructor of its own."""

    def __init__(self, flavour):
        super().__init__()
        object.__setattr__(self, "flavour", flavour)


def layer(**names):
    return FactorizedConv(6, 4, (3, 3), rank=2, **names)


def is_dense(made):
    """Whether the layer computes the convolution with its own reconstructed kernel."""
    x = torch.randn(2, 6, 5, 5)
    return torch.allclose(made(x), made.to_conv()(x), atol=1e-5)


class TestNames:
    def test_a_package_s_class_is_found_by_its_entry_point_s_name(self, install):
        points = {FORMATS: {"matrix": "acme:Matrix"}, WAYS: {"stacked": "acme:Stacked"}}
        install("acme", points, acme=MATRIX + STACKED)
        assert "matrix" in factorizations.names()
        assert "stacked" in implementations
        made = layer(factorization="matrix", implementation="stacked")
        assert (made.factorization, made.implementation) == ("matrix", "stacked")
        assert is_dense(made)

    def test_a_class_is_imported_when_its_name_is_first_asked_for(self, install):
        install("acme", {FORMATS: {"matrix": "acme_lazy:Matrix"}}, acme_lazy=MATRIX)
        assert "matrix" in factorizations.names()
        assert factorizations["cp"].__name__ == "CP"
        assert "acme_lazy" not in sys.modules
        cls = factorizations["matrix"]
        assert cls is sys.modules["acme_lazy"].Matrix
        assert factorizations["matrix"] is cls

    @pytest.mark.parametrize("name", ["CP", "Cp", "Tucker", "TT"])
    def test_looking_a_name_up_folds_case(self, name):
        assert factorizations[name] is factorizations[name.lower()]
        assert name in factorizations
        made = FactorizedConv(6, 4, 3, order=2, factorization=name, implementation="Factorized")
        assert (made.factorization, made.implementation) == (name.lower(), "factorized")

    def test_names_are_sorted_and_lower_case(self, install):
        install("acme", {FORMATS: {"zeta": "acme:Matrix", "alpha": "acme:Matrix"}}, acme=MATRIX)
        for registry in (factorizations, implementations, runtimes):
            assert registry.names() == sorted({name.lower() for name in registry.names()})


class TestUnknownNames:
    @pytest.mark.parametrize("registry", [factorizations, implementations, runtimes])
    def test_an_unknown_name_is_refused_with_the_installed_ones(self, registry):
        with pytest.raises(ValueError, match="'no-such-plugin' is not installed") as refusal:
            registry["no-such-plugin"]
        assert ", ".join(registry.names()) in str(refusal.value)
        assert "did you mean" not in str(refusal.value)

    @pytest.mark.parametrize("name", ["tuker", "Tukcer", "tucker2"])
    def test_a_near_miss_is_answered_with_the_name_that_was_meant(self, name):
        with pytest.raises(ValueError, match=r"did you mean 'tucker'\?"):
            layer(factorization=name)

    def test_the_refusal_names_the_argument(self):
        with pytest.raises(ValueError, match=r"implementation='reconstruct'.*'reconstructed'"):
            layer(implementation="reconstruct")


class TestDuplicates:
    @pytest.fixture(autouse=True)
    def _two_claim_one_name(self, install):
        install("acme", {FORMATS: {"matrix": "acme:Matrix"}}, "1.0", acme=MATRIX)
        install(
            "bolt-ltd",
            {FORMATS: {"matrix": "bolt:Matrix", "bolt": "bolt:Matrix"}},
            "2.0",
            bolt=MATRIX,
        )

    def test_asking_for_a_name_claimed_twice_names_both_and_the_remedy(self):
        with pytest.raises(PluginError, match="is claimed by") as fault:
            layer(factorization="matrix")
        for part in ("acme 1.0", "acme:Matrix", "bolt-ltd 2.0", "bolt:Matrix"):
            assert part in str(fault.value)
        assert "TENFOLD_DISABLE=bolt-ltd:matrix" in str(fault.value)

    def test_other_names_of_the_same_packages_work(self):
        assert is_dense(layer(factorization="bolt"))
        assert is_dense(layer(factorization="cp"))
        assert factorizations.names().count("matrix") == 1

    @pytest.mark.parametrize(
        ("disabled", "left"),
        [("bolt-ltd:matrix", "acme"), ("acme:matrix", "bolt"), (" Acme:Matrix , x:y", "bolt")],
    )
    def test_disabling_one_of_them_leaves_the_other(self, monkeypatch, disabled, left):
        monkeypatch.setenv("TENFOLD_DISABLE", disabled)
        assert factorizations["matrix"].__module__ == left

    def test_the_remedy_in_the_message_works(self, monkeypatch):
        with pytest.raises(PluginError) as fault:
            factorizations["matrix"]
        remedy = str(fault.value).split("set ")[1]
        monkeypatch.setenv(*remedy.split("="))
        assert is_dense(layer(factorization="matrix"))

    def test_disabling_both_leaves_no_such_name(self, monkeypatch):
        monkeypatch.setenv("TENFOLD_DISABLE", "acme:matrix,bolt-ltd:matrix")
        assert "matrix" not in factorizations.names()
        with pytest.raises(ValueError, match="is not installed"):
            factorizations["matrix"]


def test_a_built_in_name_can_be_claimed_and_disabled_like_any_other(install, monkeypatch):
    install("acme", {FORMATS: {"cp": "acme:Matrix"}}, acme=MATRIX)
    with pytest.raises(PluginError, match=r"acme 1\.2\.3.* and tenfold"):
        factorizations["cp"]
    monkeypatch.setenv("TENFOLD_DISABLE", "tenfold:cp")
    assert factorizations["cp"].__name__ == "Matrix"


BROKEN = {
    "missing_import": ("import no_such_module_anywhere", "acme:Matrix", ModuleNotFoundError),
    "raises": ("raise OSError('no driver')", "acme:Matrix", OSError),
    "syntax": ("def", "acme:Matrix", SyntaxError),
    "no_such_class": (MATRIX, "acme:Matrx", AttributeError),
    "no_such_module": (MATRIX, "acme_gone:Matrix", ModuleNotFoundError),
}


@pytest.mark.parametrize(("source", "target", "cause"), BROKEN.values(), ids=BROKEN)
class TestBrokenImports:
    @pytest.fixture(autouse=True)
    def _a_broken_package(self, install, source, target, cause):
        install("acme", {FORMATS: {"matrix": target}}, "0.7", acme=source)

    def test_asking_names_the_package_and_chains_its_own_exception(self, target, cause):
        with pytest.raises(PluginError) as fault:
            layer(factorization="matrix")
        for part in ("acme 0.7", f"matrix = {target}", cause.__name__, "uninstall acme"):
            assert part in str(fault.value)
        assert isinstance(fault.value.__cause__, cause)

    def test_not_asking_harms_nothing(self, target):
        assert "matrix" in factorizations.names()
        assert is_dense(layer(factorization="tt"))
        assert target.split(":")[0] not in sys.modules


class TestWhatIsNoSuchPlugin:
    @pytest.mark.parametrize("target", ["acme:Stacked", "acme:Stacked.plan", "acme", "math:pi"])
    def test_a_wrong_kind_of_object_is_refused_when_asked_for(self, install, target):
        install("acme", {FORMATS: {"stacked": target}}, acme=STACKED)
        assert is_dense(layer())
        with pytest.raises(PluginError, match=r"acme 1\.2\.3.*subclass of tenfold.Factorization"):
            factorizations["stacked"]

    def test_an_abstract_class_is_refused_with_what_it_lacks(self, install):
        source = "from tenfold import Implementation\n\nclass Idle(Implementation):\n    pass\n"
        install("acme", {WAYS: {"idle": "acme:Idle"}}, acme=source)
        with pytest.raises(PluginError, match=r"acme 1\.2\.3.*is abstract: it must define plan"):
            layer(implementation="idle")

    @pytest.mark.parametrize("asked", ["Matrix", "matrix", "MATRIX"])
    def test_a_name_that_is_not_lower_case_is_refused_when_asked_for(self, install, asked):
        install("acme", {FORMATS: {"Matrix": "acme:Matrix"}}, acme=MATRIX)
        assert is_dense(layer())
        with pytest.raises(PluginError, match=r"acme 1\.2\.3.*not lower-case.*'matrix'"):
            factorizations[asked]

    def test_a_failure_is_not_remembered(self, install, monkeypatch):
        install("acme", {FORMATS: {"matrix": "acme:Stacked"}}, acme=STACKED)
        install("bolt", {FORMATS: {"matrix": "bolt:Matrix"}}, bolt=MATRIX)
        with pytest.raises(PluginError):
            factorizations["matrix"]
        monkeypatch.setenv("TENFOLD_DISABLE", "acme:matrix")
        assert factorizations["matrix"].__name__ == "Matrix"


def test_a_package_without_metadata_harms_no_other(install, tmp_path):
    install("acme", {FORMATS: {"matrix": "acme:Matrix"}}, acme=MATRIX)
    next(tmp_path.glob("acme/*.dist-info/METADATA")).unlink()
    assert is_dense(layer(factorization="cp"))
    assert "tucker" in factorizations.names()


@pytest.mark.usefixtures("install")
class TestRegister:
    def test_a_registered_class_works_by_name(self):
        factorizations.register("column", Column)
        implementations.register("whole", Whole)
        assert "column" in factorizations.names()
        made = layer(factorization="Column", implementation="whole")
        assert (made.factorization, made.implementation) == ("column", "whole")
        assert is_dense(made)

    def test_a_registered_name_is_found_as_a_near_miss(self):
        factorizations.register("column", Column)
        with pytest.raises(ValueError, match=r"did you mean 'column'\?"):
            factorizations["colum"]

    @pytest.mark.parametrize(
        ("name", "cls", "error", "message"),
        [
            ("cp", Column, ValueError, "'cp' is taken"),
            ("Column", Column, ValueError, "must be lower-case: use 'column'"),
            ("", Column, ValueError, "must be lower-case"),
            ("column", Whole, TypeError, "subclass of tenfold.Factorization"),
            ("column", Column(), TypeError, "subclass of tenfold.Factorization"),
            ("column", Half, TypeError, "is abstract: it must define factors"),
        ],
    )
    def test_a_bad_registration_is_refused_and_leaves_nothing(self, name, cls, error, message):
        before = factorizations.names()
        with pytest.raises(error, match=message):
            factorizations.register(name, cls)
        assert factorizations.names() == before

    def test_a_name_is_registered_once(self):
        factorizations.register("column", Column)
        with pytest.raises(ValueError, match="is taken"):
            factorizations.register("column", Column)


class TestClassesAndInstances:
    @pytest.mark.parametrize("factorization", [Column, Column()])
    @pytest.mark.parametrize("implementation", [Whole, Whole()])
    def test_they_work_without_a_name(self, factorization, implementation):
        before = factorizations.names()
        made = layer(factorization=factorization, implementation=implementation)
        assert is_dense(made)
        assert (made.factorization, made.implementation) == ("Column", "Whole")
        assert factorizations.names() == before

    def test_an_installed_class_works_as_its_name_does(self):
        torch.manual_seed(0)
        named = layer(factorization="tt", implementation="reconstructed")
        torch.manual_seed(0)
        given = layer(
            factorization=factorizations["tt"], implementation=implementations["reconstructed"]()
        )
        x = torch.randn(1, 6, 5, 5)
        assert torch.equal(named(x), given(x))

    def test_a_conversion_takes_them_too(self):
        conv = torch.nn.Conv2d(6, 4, 3)
        made = FactorizedConv.from_conv(conv, rank=4, factorization=Column(sweeps=40))
        x = torch.randn(1, 6, 5, 5)
        assert torch.allclose(made(x), conv(x), atol=1e-5)

    def test_a_conversion_takes_an_instance_whatever_its_constructor_takes(self):
        conv = torch.nn.Conv2d(6, 4, 3)
        made = FactorizedConv.from_conv(conv, rank=4, factorization=Flavoured("sweet"))
        x = torch.randn(1, 6, 5, 5)
        assert torch.allclose(made(x), conv(x), atol=1e-5)

    @pytest.mark.parametrize("given", [3, None, object(), torch.nn.Conv2d, Whole, Whole(), Half])
    def test_what_is_no_factorization_is_refused(self, given):
        with pytest.raises(TypeError, match="factorization="):
            layer(factorization=given)

    @pytest.mark.parametrize("given", [3, None, object(), torch.nn.Conv2d, Column, Column()])
    def test_what_is_no_implementation_is_refused(self, given):
        with pytest.raises(TypeError, match="implementation="):
            layer(implementation=given)

    def test_the_refusal_of_a_wrong_argument_lists_the_installed_names(self):
        with pytest.raises(TypeError, match=", ".join(factorizations.names())):
            layer(factorization=3)
