"""What is installed, as entry points: read, and not yet imported."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import Any

DISABLE = "TENFOLD_DISABLE"


class PluginError(RuntimeError):
    """An installed plugin that was asked for cannot be used: it is broken, or not the only one.

    The message names its distribution, version and target, and what to do.

    >>> try:
    ...     format_ = factorizations["cp"]
    ... except PluginError as fault:
    ...     print(fault)
    """


@dataclass(frozen=True)
class Entry:
    """One entry point and the distribution that it came with."""

    point: EntryPoint
    distribution: str
    version: str

    @property
    def name(self) -> str:
        return self.point.name

    @property
    def disabled(self) -> bool:
        """Whether `TENFOLD_DISABLE` lists it, as `distribution:name`, parted by commas."""
        return f"{self.distribution}:{self.name}".lower() in listed_as_disabled()


def listed_as_disabled() -> list[str]:
    """The items of `TENFOLD_DISABLE`, in lower case."""
    items = [item.strip().lower() for item in os.environ.get(DISABLE, "").split(",")]
    return [item for item in items if item]


def unmatched(groups: Collection[str]) -> list[str]:
    """The items of `TENFOLD_DISABLE` that name no installed plugin of these groups, if any."""
    items = listed_as_disabled()
    if not items:
        return []
    entries = [entry for group in groups for entry in every(group)]
    known = {f"{entry.distribution}:{entry.name}".lower() for entry in entries}
    return [item for item in items if item not in known]


def describe(entry: Entry) -> str:
    """Name an entry by its distribution, version, name and target."""
    return f"{entry.distribution} {entry.version}: {entry.name} = {entry.point.value}"


def remedy(entry: Entry) -> str:
    """What a user can do about a broken plugin."""
    return (
        f"repair or uninstall {entry.distribution}, or set {DISABLE}="
        f"{entry.distribution}:{entry.name}"
    )


def every(group: str) -> list[Entry]:
    """The installed entry points of a group, the disabled ones included, in a fixed order."""
    entries = []
    for point in _points(group):
        known = _metadata(point)
        name, version = (known.get(key, "unknown") for key in ("Name", "Version"))
        entries.append(Entry(point, name, version))
    return sorted(entries, key=lambda entry: (entry.name, entry.distribution, entry.point.value))


def _points(group: str) -> list[EntryPoint]:
    try:
        return list(entry_points(group=group))
    except Exception:  # one distribution's file is damaged, and Python then reads none
        return [
            point for points in _readable().values() for point in points if point.group == group
        ]


def unreadable() -> dict[str, str]:
    """The distributions whose entry points cannot be read, each with the reason."""
    found: dict[str, str] = {}
    for dist in distributions():
        try:
            list(dist.entry_points)
        except Exception as fault:
            found[dist.metadata["Name"]] = f"{type(fault).__name__}: {fault}"
    return found


def misplaced(groups: Collection[str]) -> Iterator[tuple[str, EntryPoint]]:
    """The entry points in groups that are spelt as if they were tenfold's, and are not."""
    for points in _readable().values():
        for point in points:
            if point.group.startswith("tenfold") and point.group not in groups:
                yield point.group, point


def _readable() -> dict[str, list[EntryPoint]]:
    """The entry points of each distribution, the first of a name, where they can be read."""
    found: dict[str, list[EntryPoint]] = {}
    for dist in distributions():
        try:
            found.setdefault(dist.metadata["Name"], list(dist.entry_points))
        except Exception:
            continue
    return found


def _metadata(point: EntryPoint) -> Any:
    """What its distribution says of itself; nothing where the installation has lost that."""
    try:
        return {} if point.dist is None else point.dist.metadata
    except FileNotFoundError:  # of importlib_metadata, which replaces Python's where it is imported
        return {}


def found(group: str) -> list[Entry]:
    """The installed entry points of a group that are not disabled, in a fixed order."""
    return [entry for entry in every(group) if not entry.disabled]
