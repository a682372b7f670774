"""Say in a line what pydantic found wrong."""

from __future__ import annotations

from pydantic import ValidationError


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, and its place: `layers.3.rank: must be at least 1`."""
    found = error.errors(include_url=False)[0]
    place = ".".join(map(str, found["loc"]))
    reason = found["msg"].removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason
