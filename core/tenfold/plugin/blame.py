"""Whose code failed: a note on the errors that come out of other people's plugins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from torch import Tensor

from .catalogue import Entry, describe, found
from .trace import is_tracing, traced

GROUPS = ("tenfold.factorizations", "tenfold.implementations", "tenfold.runtimes")
OURS = "tenfold"  # whose errors are refusals, and need no blame
P = ParamSpec("P")
R = TypeVar("R")


def ask(method: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """Call a plugin's method: an error is told with whose it is, and a trace has the call."""
    plugin, name = method.__self__, method.__name__  # type: ignore[attr-defined]
    if not is_tracing() and not any(isinstance(one, Tensor) for one in given):
        try:  # as below, in a fraction of the time
            return method(*given, **named)
        except Exception as fault:
            _note(fault, plugin, name)
            raise
    with blamed(plugin, name), unwritten(lambda: label(plugin, name), given):
        if not is_tracing():  # whose it is takes a look at all that is installed
            return method(*given, **named)
        return traced(label(plugin, name), method, *given, **named)


@contextmanager
def unwritten(who: Callable[[], str], given: Iterable[object]) -> Iterator[None]:
    """Refuse what writes into a tensor that it was given, with a `RuntimeError`."""
    tensors = [one for one in given if isinstance(one, Tensor) and not one.is_inference()]
    versions = [one._version for one in tensors]
    yield
    if versions != [one._version for one in tensors]:
        raise RuntimeError(
            f"{who()} wrote into the kernel that it was given: it must work on kernel.clone()"
        )


@contextmanager
def blamed(plugin: object, method: str) -> Iterator[None]:
    """Let an error from within pass as it is, with a note of the distribution that it is from.

    Python shows notes from 3.11 on. A class without an entry point is the user's own, and gets
    none.
    """
    try:
        yield
    except Exception as fault:
        _note(fault, plugin, method)
        raise


def _note(fault: Exception, plugin: object, method: str) -> None:
    entry = installed(type(plugin))
    if entry is not None and entry.distribution != OURS:
        call = f"{type(plugin).__name__}.{method}()"
        blame(fault, f"This is from the plugin {describe(entry)}, in {call}")


def blame(fault: Exception, words: str) -> None:
    """Note on an error whose it is, where that is not noted yet."""
    if sys.version_info >= (3, 11) and not any(
        note.startswith("This is from") for note in getattr(fault, "__notes__", ())
    ):
        fault.add_note(words)


def label(plugin: object, method: str) -> str:
    """A plugin's method as errors name it, with the distribution and version that it is from."""
    entry = installed(type(plugin))
    call = f"{type(plugin).__name__}.{method}()"
    if entry is None or entry.distribution == OURS:
        return call
    return f"{call} of {entry.distribution} {entry.version}"


def installed(cls: type) -> Entry | None:
    """The entry point that a class came by."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    for group in GROUPS:
        for entry in found(group):
            if entry.point.value == target:
                return entry
    return None
