"""Every installed plugin keeps the laws."""

import pytest

from tenfold import factorizations, implementations
from tenfold.testing import LawError, conformance

ORDERS = {"fft": (1, 2, 3)}  # of those that do not have every one

for _name in factorizations.names():
    globals()[f"TestFactorization_{_name}"] = conformance(factorization=_name, max_examples=15)(
        type(f"TestFactorization_{_name}", (), {})
    )
for _name in implementations.names():
    globals()[f"TestImplementation_{_name}"] = conformance(
        implementation=_name, orders=ORDERS.get(_name, (0, 1, 2, 3)), max_examples=15
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


def test_an_implementation_that_takes_nothing_is_told_to_say_what_it_takes():
    with pytest.raises(LawError, match=r"'fft' takes none .* of orders \(0,\): .* the orders="):
        judged("runs_as_the_dense_convolution", implementation="fft", orders=(0,))
