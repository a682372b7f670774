"""Whose code failed: a note on the errors that come out of other people's plugins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .catalogue import Entry, describe, found

GROUPS = ("tenfold.factorizations", "tenfold.implementations")
OURS = "tenfold"  # whose errors are refusals, and need no blame


@contextmanager
def blamed(plugin: object) -> Iterator[None]:
    """Let an error from within pass as it is, with a note of the distribution that it is from.

    Python shows notes from 3.11 on. A class without an entry point is the user's own, and gets
    none.
    """
    try:
        yield
    except Exception as fault:
        entry = installed(type(plugin))
        if sys.version_info >= (3, 11) and entry is not None and entry.distribution != OURS:
            fault.add_note(f"This is from the plugin {describe(entry)}")
        raise


def installed(cls: type) -> Entry | None:
    """The entry point that a class came by."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    for group in GROUPS:
        for entry in found(group):
            if entry.point.value == target:
                return entry
    return None
