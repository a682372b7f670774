"""What is installed and in what state, for people who look."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from difflib import get_close_matches

from .catalogue import (
    DISABLE,
    Entry,
    PluginError,
    describe,
    every,
    misplaced,
    remedy,
    unmatched,
    unreadable,
)
from .hooks import HOOKS_GROUP, check_hook_plugin
from .registry import REGISTRIES

BAD = ("broken", "ambiguous")


@dataclass(frozen=True)
class Listed:
    """One entry point, with what is known of it.

    `state` is `installed` (not imported), `loads`, `disabled`, `ambiguous` or `broken`; `detail`
    says what to do about the last three. `unmatched` is an item of `TENFOLD_DISABLE` that names no
    installed plugin.
    """

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    state: str
    detail: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def list_plugins(load: bool = False) -> list[Listed]:
    """List every entry point of the four groups; import each where `load`."""
    kinds = [(registry.kind, registry.group) for registry in REGISTRIES]
    listed = []
    for kind, group in [*kinds, ("hook", HOOKS_GROUP)]:
        entries = every(group)
        claims = Counter(entry.name.lower() for entry in entries if not entry.disabled)
        for entry in entries:
            shared = claims[entry.name.lower()] > 1 and kind != "hook"
            state, detail = _state(kind, entry, shared, load)
            listed.append(
                Listed(
                    kind=kind,
                    name=entry.name,
                    distribution=entry.distribution,
                    version=entry.version,
                    target=entry.point.value,
                    state=state,
                    detail=detail,
                )
            )
    listed += _lost([group for _, group in kinds] + [HOOKS_GROUP])
    listed += [
        Listed(
            kind=DISABLE,
            name=item,
            distribution="",
            version="",
            target="",
            state="unmatched",
            detail="no installed plugin is called so: write distribution:name, parted by commas",
        )
        for item in unmatched([group for _, group in kinds] + [HOOKS_GROUP])
    ]
    return listed


def _lost(groups: list[str]) -> list[Listed]:
    """What was meant to be a plugin, and is found by nobody."""
    found = []
    for group, point in misplaced(groups):
        near = get_close_matches(group, groups, n=1) or groups
        dist = point.dist
        found.append(
            Listed(
                kind=group,
                name=point.name,
                distribution=dist.metadata["Name"] if dist else "unknown",
                version=dist.version if dist else "unknown",
                target=point.value,
                state="broken",
                detail=f"no such group: its author must write {' or '.join(near)}",
            )
        )
    for name, reason in unreadable().items():
        found.append(
            Listed(
                kind="distribution",
                name=name,
                distribution=name,
                version="",
                target="entry_points.txt",
                state="broken",
                detail=f"its entry points cannot be read: {reason}; reinstall or uninstall it",
            )
        )
    return found


def _state(kind: str, entry: Entry, shared: bool, load: bool) -> tuple[str, str]:
    if entry.disabled:
        return (
            "disabled",
            f"by {DISABLE}: take {entry.distribution}:{entry.name} out of it to use it",
        )
    if shared:
        return "ambiguous", (
            f"claimed twice: uninstall one or set {DISABLE}={entry.distribution}:{entry.name}"
        )
    if not load:
        return "installed", ""
    try:
        if kind == "hook":
            check_hook_plugin(entry)
        else:
            next(registry for registry in REGISTRIES if registry.kind == kind).load(entry)
    except PluginError as fault:
        return "broken", str(fault)
    except (Exception, SystemExit) as fault:
        reason = f"{type(fault).__name__}: {fault}"
        return "broken", f"the hook plugin {describe(entry)}: {reason}; {remedy(entry)}"
    return "loads", ""
