"""Every installed plugin keeps the laws."""

from importlib import import_module

import pytest
from hypothesis import strategies as st

from tenfold import Implementation, factorizations, implementations
from tenfold.testing import LawError, Request, conformance, laws

ORDERS = {"fft": (1, 2, 3), "onnxruntime": (1, 2, 3)}  # of those that do not have every one

for _name in factorizations.names():
    globals()[f"TestFactorization_{_name}"] = conformance(factorization=_name, max_examples=12)(
        type(f"TestFactorization_{_name}", (), {})
    )
for _name in implementations.names():
    globals()[f"TestImplementation_{_name}"] = conformance(
        implementation=_name, orders=ORDERS.get(_name, (0, 1, 2, 3)), max_examples=12
    )(type(f"TestImplementation_{_name}", (), {}))


def judged(law: str, **arguments: object) -> None:
    """Run one law of a conformance class, as pytest would."""
    cls = conformance(**{"orders": (1,), "max_examples": 5, **arguments})(type("Judged", (), {}))
    getattr(cls(), f"test_{law}")()


class TestDeclaredFailures:
    def test_a_law_that_is_declared_to_fail_and_holds_is_an_error(self):
        declared = {"factorization": "tt", "fails": {"full_rank_is_exact": "too hard"}}
        message = "'tt' is declared to break the law full_rank_is_exact .too hard.*take it out"
        with pytest.raises(AssertionError, match=message) as error:
            judged("full_rank_is_exact", **declared)
        assert not isinstance(error.value, LawError)

    def test_the_other_laws_are_judged_as_ever(self):
        judged("the_budget_is_kept", factorization="tt", fails={"full_rank_is_exact": "too hard"})

    def test_an_unknown_law_is_refused_with_the_laws_there_are(self):
        with pytest.raises(ValueError, match=r"fails='full_rank' is no law here: .*full_"):
            conformance(factorization="tt", fails={"full_rank": "too hard"})


class Two(Implementation):
    """It runs two channels only: next to nothing of what is drawn by default."""

    def plan(self, network, geometry):
        if network.shape[:2] != (2, 2):
            raise ValueError("it has two channels in and out")
        return (tuple(range(len(network.factors))),)


class TestClaims:
    def test_an_order_of_which_nothing_is_taken_is_an_error(self):
        said = r"'fft' takes none of the .* of order 0, and the law runs_in_b.* orders=.*requests="
        with pytest.raises(LawError, match=said):
            judged("runs_in_bfloat16", implementation="fft", orders=(1, 0))

    def test_the_requests_that_are_given_are_what_is_drawn(self):
        arguments = {"in_channels": 2, "out_channels": 2, "kernel_size": (3,)}
        drawn = st.builds(Request, st.just(arguments), batch=st.integers(1, 2), size=st.just((5,)))
        for law in (*laws.LAYER_LAWS, *laws.KERNEL_LAWS):
            given = {"factorization": "tt", "implementation": Two, "requests": drawn}
            judged(law.__name__, **given)
        with pytest.raises(LawError, match="of order 2, and the law"):
            judged("the_budget_is_kept", orders=(1, 2), **given)


class TestOthers:
    """What other packages bring is left out, or takes part where that is asked for."""

    @pytest.fixture
    def called(self, install):
        """The calls of what a stranger has installed."""
        source = """
from tenfold import Implementation, hookimpl

calls = []

@hookimpl(wrapper=True)
def tenfold_decompose():
    calls.append("hook")
    return (yield)

class Whole(Implementation):
    def plan(self, network, geometry):
        calls.append("plan")
        return (tuple(range(len(network.factors))),)
"""
        points = {"tenfold.hooks": {"x": "acme"}, "tenfold.implementations": {"x": "acme:Whole"}}
        install("acme", points, acme=source)
        return import_module("acme").calls

    @pytest.mark.parametrize("law", ["full_rank_is_exact", "runs_as_the_dense_convolution"])
    def test_they_are_left_out(self, called, law):
        judged(law, factorization="tt")
        assert called == []

    def test_a_hook_takes_part_where_it_is_asked_to(self, called):
        judged("full_rank_is_exact", factorization="tt", foreign=True)
        assert set(called) == {"hook"}

    def test_an_implementation_takes_part_where_it_is_asked_to(self, called):
        judged("runs_as_the_dense_convolution", factorization="tt", foreign=True)
        assert set(called) == {"plan"}
