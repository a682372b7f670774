"""The decorator that gives a test class every law of a plugin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenfold import Factorization, Implementation

from .laws import FORMAT_LAWS, RUNNER_LAWS, Subject

C = TypeVar("C", bound=type)
Law = Callable[[Subject, st.DataObject], None]


def conformance(
    *,
    factorization: str | Factorization | type[Factorization] | None = None,
    implementation: str | Implementation | type[Implementation] | None = None,
    orders: Sequence[int] = (0, 1, 2, 3),
    max_examples: int = 25,
) -> Callable[[C], C]:
    """Add one Hypothesis test for each law to a test class.

    With `factorization`, the laws of a format, run by every installed implementation that takes it
    (or by `implementation` alone). With only `implementation`, the laws of a way of running, for
    CP. `orders` are the numbers of spatial axes that are drawn.

    Raises `ValueError` where neither is given.

    >>> @conformance(factorization="cp")
    ... class TestCP:
    ...     pass
    >>> sorted(name for name in dir(TestCP) if name.startswith("test_"))[0]
    'test_error_does_not_rise_with_rank'
    """
    if factorization is None and implementation is None:
        raise ValueError("conformance() needs factorization=, implementation= or both")
    laws = RUNNER_LAWS if factorization is None else FORMAT_LAWS
    subject = Subject(factorization or "cp", implementation, tuple(orders))

    def decorate(cls: C) -> C:
        for law in laws:
            setattr(cls, f"test_{law.__name__}", _test(law, subject, max_examples))
        return cls

    return decorate


def _test(law: Law, subject: Subject, max_examples: int) -> Callable[..., None]:
    # a new function each time: Hypothesis runs one that two classes share only once
    @settings(
        max_examples=max_examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(data=st.data())
    def test(self: Any, data: st.DataObject) -> None:
        law(subject, data)

    test.__name__ = test.__qualname__ = f"test_{law.__name__}"
    test.__doc__ = law.__doc__
    return test
