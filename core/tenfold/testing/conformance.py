"""The decorator that gives a test class every law of a plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure, HypothesisException, Unsatisfiable

from .. import Factorization, Implementation, Runtime
from ..plugin import only_hooks
from .example import Example
from .hook_subject import HookSubject
from .laws import COSTLY, FORMAT_LAWS, HOOK_LAWS, ORDERS, RUNNER_LAWS, RUNTIME_LAWS, Law
from .laws_of_runtimes import RuntimeSubject
from .strategies import Request
from .subject import NoneTakenError, Subject

C = TypeVar("C", bound=type)
Judged = Subject | HookSubject | RuntimeSubject
FINDING = (Phase.explicit, Phase.reuse, Phase.generate)  # without making the example smaller
EVERY = (0, 1, 2, 3)  # orders


class LawError(AssertionError):
    """A plugin breaks a law; the message has the law, what was wrong and the smallest example.

    >>> issubclass(LawError, AssertionError)  # so a test runner shows it as a failure
    True
    """


def conformance(
    *,
    factorization: str | Factorization | type[Factorization] | None = None,
    implementation: str | Implementation | type[Implementation] | None = None,
    runtime: str | Runtime | type[Runtime] | None = None,
    hook: object = None,
    asks: Sequence[Any] = (),
    orders: Sequence[int] = EVERY,
    requests: st.SearchStrategy[Request] | None = None,
    foreign: bool = False,
    max_examples: int = 25,
    fails: Mapping[str, str] | None = None,
) -> Callable[[C], C]:
    """Add one Hypothesis test for each law to a test class.

    With `factorization`, the laws of a format, run by every implementation of tenfold's that takes
    it (or by `implementation` alone). With only `implementation`, the laws of a way of running, for
    every format of tenfold's that it takes. Other packages' hooks are off meanwhile; with `foreign`
    those, and what else is installed of others, take part. With `runtime`, the laws of a place
    where networks run, on small ones of orders 1 and 2. With `hook`, a module, an object or an
    installed name, the laws of each hook that it has; `asks` are the requests that a rank rule
    answers, or names of layers that a selector answers.

    `orders` are the numbers of spatial axes that the plugin claims to have: each is tried, and one
    of which it takes no convolution that is drawn is an error. `requests` draws the convolutions,
    where it takes few of those of `tenfold.testing.requests`. `max_examples` is how many there are
    of each law, over all orders; costly ones have fewer. `fails` maps the name of a law that the
    plugin is known to break to the reason: that law must then fail, and holding it is an error.

    A broken law raises `LawError`. Raises `ValueError` where no plugin is given, or a hook or
    runtime and another, where `fails` names no law, and for a hook plugin without hooks.

    >>> @conformance(factorization="cp")
    ... class TestCP:
    ...     pass
    >>> sorted(name for name in dir(TestCP) if name.startswith("test_"))[0]
    'test_a_moment_lowers_the_error_of_the_output'
    """
    subject: Judged
    pair = factorization is not None or implementation is not None
    if runtime is not None and hook is None and not pair:
        subject, laws = RuntimeSubject(runtime, tuple(orders)), [*RUNTIME_LAWS]
    elif hook is not None and runtime is None and not pair:
        subject = HookSubject.named(hook, asks, orders)
        laws = [law for name in sorted(subject.hooks) for law in HOOK_LAWS[name]]
    elif hook is None and runtime is None and pair:
        subject = Subject(factorization, implementation, tuple(orders), requests, foreign)
        laws = [] if factorization is None else [*FORMAT_LAWS]
        laws += [] if implementation is None else [law for law in RUNNER_LAWS if law not in laws]
    else:
        raise ValueError(
            "conformance() needs factorization=, implementation= or both, or runtime=, or hook="
        )
    known, declared = list(dict.fromkeys(law.__name__ for law in laws)), dict(fails or {})
    for name in declared:
        if name not in known:
            raise ValueError(f"fails={name!r} is no law here: the laws are {', '.join(known)}")

    def decorate(cls: C) -> C:
        for law in laws:
            mine = [order for order in orders if order in ORDERS.get(law, orders)]
            if not mine:
                continue
            reason = declared.get(law.__name__)
            test = _test(law, subject, mine, max_examples, foreign, shrink=reason is None)
            if reason is not None:
                test = _failing(test, law, subject, reason)
            test.__name__ = test.__qualname__ = f"test_{law.__name__}"
            test.__doc__ = law.__doc__
            setattr(cls, test.__name__, test)
        return cls

    return decorate


def _test(
    law: Law,
    subject: Judged,
    orders: Sequence[int],
    max_examples: int,
    foreign: bool,
    shrink: bool,
) -> Callable[..., None]:
    each = ceil(max_examples / COSTLY.get(law, len(orders)))

    def test(self: Any) -> None:
        if foreign:
            _try_orders()
        else:
            with only_hooks():
                _try_orders()

    def _try_orders() -> None:
        for order in orders:
            _try(law, subject.of(order), each, shrink)

    return test


def _try(law: Law, subject: Judged, max_examples: int, shrink: bool) -> None:
    """Try a law on so many examples of one order."""
    wanted = (*FINDING, Phase.shrink) if shrink else FINDING
    phases = [phase for phase in settings().phases if phase in wanted]
    tally = [0, 0]

    # a new function each time: Hypothesis runs one that two classes share only once
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
    def check(data: st.DataObject) -> None:
        example = Example(data, tally)
        try:
            law(subject, example)
        except (HypothesisException, NoneTakenError):
            raise
        except Exception as fault:
            raise LawError(_words(law, subject, example, fault)) from fault

    try:
        check()
    except FlakyFailure as fault:
        raise LawError(
            f"{fault.exceptions[0]}\nrun again, the same example did not fail the same way: "
            "the plugin depends on more than its arguments"
        ) from None
    except (Unsatisfiable, NoneTakenError):
        raise LawError(
            f"{subject} takes none of the convolutions that were drawn of order "
            f"{subject.orders[0]}, and the law {law.__name__} was not tried there: give "
            "conformance() the orders= that it has, or requests= that draw what it takes"
        ) from None


def _failing(
    test: Callable[..., None], law: Law, subject: Judged, reason: str
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


def _words(law: Law, subject: Judged, example: Example, fault: Exception) -> str:
    said = str(fault) if isinstance(fault, AssertionError) else f"{type(fault).__name__}: {fault}"
    title = (law.__doc__ or "").strip().splitlines()[0]
    return (
        f"{subject} breaks the law {law.__name__}: {title}\n"
        f"what was wrong: {said}\n"
        f"the example, the smallest where it is the last one shown: {example}"
    )
