"""`TENFOLD_TRACE=1`: each call of a plugin, its time and what it gave, on the standard error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

TRACE = "TENFOLD_TRACE"
LONGEST = 200  # characters of what a call gave
P = ParamSpec("P")
R = TypeVar("R")


def is_tracing() -> bool:
    """Whether a trace is asked for."""
    return os.environ.get(TRACE, "0") not in ("", "0")


def traced(what: str, call: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """Call, and print what was called, how long it took and what came of it, where asked to."""
    if not is_tracing():
        return call(*given, **named)
    started = time.perf_counter()
    try:
        result = call(*given, **named)
    except Exception as fault:
        report(what, started, f"raised {type(fault).__name__}: {fault}")
        raise
    report(what, started, f"gave {shown(result)}")
    return result


def report(what: str, started: float, outcome: str) -> None:
    """Print one line, where a trace is asked for."""
    if is_tracing():
        took = 1000 * (time.perf_counter() - started)
        cut = outcome if len(outcome) <= LONGEST else f"{outcome[: LONGEST - 1]}…"
        print(f"tenfold: {what} took {took:.3f} ms and {cut}", file=sys.stderr)


def shown(value: Any) -> str:
    """A value in a few words: tensors by their shapes."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {shown(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(shown, value))}]"
    return repr(value)
