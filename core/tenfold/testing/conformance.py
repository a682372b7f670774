"""The decorator that gives a test class every law of a plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure, HypothesisException, Unsatisfiable

from .. import Factorization, Implementation
from .example import Example
from .laws import FORMAT_LAWS, RUNNER_LAWS, Law, Subject

C = TypeVar("C", bound=type)
FINDING = (Phase.explicit, Phase.reuse, Phase.generate)  # without making the example smaller


class LawError(AssertionError):
    """A plugin breaks a law; the message has the law, what was wrong and the smallest example.

    >>> issubclass(LawError, AssertionError)  # so a test runner shows it as a failure
    True
    """


def conformance(
    *,
    factorization: str | Factorization | type[Factorization] | None = None,
    implementation: str | Implementation | type[Implementation] | None = None,
    orders: Sequence[int] = (0, 1, 2, 3),
    max_examples: int = 25,
    fails: Mapping[str, str] | None = None,
) -> Callable[[C], C]:
    """Add one Hypothesis test for each law to a test class.

    With `factorization`, the laws of a format, run by every installed implementation that takes it
    (or by `implementation` alone). With only `implementation`, the laws of a way of running, for
    every installed format that it takes. `orders` are the numbers of spatial axes that are drawn,
    `max_examples` how many examples of each law.
    `fails` maps the name of a law that the plugin is known to break to the reason: that law must
    then fail, and holding it is an error.

    A broken law raises `LawError`. Raises `ValueError` where neither plugin is given, or `fails`
    names no law.

    >>> @conformance(factorization="cp")
    ... class TestCP:
    ...     pass
    >>> sorted(name for name in dir(TestCP) if name.startswith("test_"))[0]
    'test_error_does_not_rise_with_rank'
    """
    if factorization is None and implementation is None:
        raise ValueError("conformance() needs factorization=, implementation= or both")
    laws = RUNNER_LAWS if factorization is None else FORMAT_LAWS
    known, declared = [law.__name__ for law in laws], dict(fails or {})
    for name in declared:
        if name not in known:
            raise ValueError(f"fails={name!r} is no law here: the laws are {', '.join(known)}")
    subject = Subject(factorization, implementation, tuple(orders))

    def decorate(cls: C) -> C:
        for law in laws:
            reason = declared.get(law.__name__)
            test = _test(law, subject, max_examples, shrink=reason is None)
            if reason is not None:
                test = _failing(test, law, subject, reason)
            test.__name__ = test.__qualname__ = f"test_{law.__name__}"
            test.__doc__ = law.__doc__
            setattr(cls, test.__name__, test)
        return cls

    return decorate


def _test(law: Law, subject: Subject, max_examples: int, shrink: bool) -> Callable[..., None]:
    # a new function each time: Hypothesis runs one that two classes share only once
    wanted = (*FINDING, Phase.shrink) if shrink else FINDING
    phases = [phase for phase in settings().phases if phase in wanted]

    @settings(
        max_examples=max_examples,
        deadline=None,
        phases=phases,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
        ],
    )
    @given(data=st.data())
    def check(self: Any, data: st.DataObject) -> None:
        example = Example(data)
        try:
            law(subject, example)
        except HypothesisException:
            raise
        except Exception as fault:
            raise LawError(_words(law, subject, example, fault)) from fault

    def test(self: Any) -> None:
        try:
            check(self)
        except FlakyFailure as fault:
            raise LawError(
                f"{fault.exceptions[0]}\nrun again, the same example did not fail the same way: "
                "the plugin depends on more than its arguments"
            ) from None
        except Unsatisfiable:
            raise LawError(
                f"{subject} takes none of the convolutions that were drawn, of orders "
                f"{subject.orders}: give conformance() the orders= that it has"
            ) from None

    return test


def _failing(
    test: Callable[..., None], law: Law, subject: Subject, reason: str
) -> Callable[..., None]:
    def declared(self: Any) -> None:
        try:
            test(self)
        except LawError:
            return
        raise AssertionError(
            f"{subject} is declared to break the law {law.__name__} ({reason}), and no example "
            "does: take it out of fails="
        )

    return declared


def _words(law: Law, subject: Subject, example: Example, fault: Exception) -> str:
    said = str(fault) if isinstance(fault, AssertionError) else f"{type(fault).__name__}: {fault}"
    title = (law.__doc__ or "").strip().splitlines()[0]
    return (
        f"{subject} breaks the law {law.__name__}: {title}\n"
        f"what was wrong: {said}\n"
        f"the example, the smallest where it is the last one shown: {example}"
    )
