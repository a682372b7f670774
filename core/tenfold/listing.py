"""What is installed and in what state, for people who look."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

from .catalogue import Entry, every
from .hooks import HOOKS_GROUP, check_hook_plugin
from .registry import REGISTRIES

BAD = ("broken", "ambiguous")


@dataclass(frozen=True)
class Listed:
    """One entry point, with what is known of it.

    `state` is `installed` (not imported), `loads`, `disabled`, `ambiguous` or `broken`; `detail`
    says what to do about the last three.
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
    """List every entry point of the three groups; import each where `load`."""
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
    return listed


def _state(kind: str, entry: Entry, shared: bool, load: bool) -> tuple[str, str]:
    if entry.disabled:
        return "disabled", "by TENFOLD_DISABLE"
    if shared:
        return "ambiguous", (
            f"claimed twice: uninstall one or set TENFOLD_DISABLE={entry.distribution}:{entry.name}"
        )
    if not load:
        return "installed", ""
    try:
        if kind == "hook":
            check_hook_plugin(entry)
        else:
            next(registry for registry in REGISTRIES if registry.kind == kind).load(entry)
    except Exception as fault:
        return "broken", str(fault)
    return "loads", ""
