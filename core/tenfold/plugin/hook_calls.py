"""Calls of hooks: who answered, and who failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from functools import wraps
from types import ModuleType
from typing import Any, NamedTuple

import pluggy

from .blame import blame, unwritten
from .trace import report, shown, traced

_asked = threading.local()  # its `answers` are those of the call that is under way


class Answer(NamedTuple):
    """What a hook answered, and the plugin whose answer it is; empty where that is core's own."""

    value: Any
    author: str


class Manager(pluggy.PluginManager):
    """A plugin manager that keeps account of who answers what."""

    def register(self, plugin: Any, name: str | None = None) -> str | None:
        """As pluggy's, and each function of `plugin` is watched."""
        registered = super().register(plugin, name)
        for caller in self.get_hookcallers(plugin) or ():
            for one in caller.get_hookimpls():
                if one.plugin is plugin and not one.hookwrapper:
                    who = author_of(plugin, registered, caller.name)
                    watch = _watched_wrapper if one.wrapper else _watched
                    one.function = watch(one.function, who)  # type: ignore[misc]
        return registered

    def ask(self, name: str, /, **arguments: Any) -> Answer:
        """Call one hook, and say whose the answer is."""
        before = getattr(_asked, "answers", None)
        answers: list[tuple[str, Any]] = []
        _asked.answers = answers
        try:
            value = getattr(self.hook, name)(**arguments)
        finally:
            _asked.answers = before
        return Answer(value, next((who for who, one in answers if one is value), ""))


def author_of(plugin: object, registered: str | None, hook: str) -> str:
    """A hook plugin in words, with its distribution and version where it was installed."""
    if registered == "tenfold":
        return ""
    if registered is not None and " = " in registered:
        return f"the hook {hook} of the plugin {registered}"
    name = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__name__
    return f"the hook {name}.{hook}()"


def _note(who: str, value: Any) -> None:
    answers = getattr(_asked, "answers", None)
    if answers is not None:
        answers.append((who, value))


def _accuse(who: str, fault: Exception) -> None:
    """Blame a hook once for an error; one that came through core is a format's own."""
    if not getattr(fault, "_tenfold_seen", False):
        fault._tenfold_seen = True  # type: ignore[attr-defined]
        if who:
            blame(fault, f"This is from {who}")


def _watched(function: Callable[..., Any], who: str) -> Callable[..., Any]:
    @wraps(function)
    def watched(*given: Any) -> Any:
        try:
            with unwritten(lambda: str(who), given):
                value = traced(who, function, *given) if who else function(*given)
        except Exception as fault:
            _accuse(who, fault)
            raise
        if value is not None:
            _note(who, value)
        return value

    return watched


def _watched_wrapper(function: Callable[..., Any], who: str) -> Callable[..., Any]:
    @wraps(function)
    def watched(*given: Any) -> Generator[Any, Any, Any]:
        started = time.perf_counter()
        try:
            with unwritten(lambda: str(who), given):
                value = yield from function(*given)
        except Exception as fault:
            _accuse(who, fault)
            raise
        report(who, started, f"gave {shown(value)}, with what it wraps")
        _note(who, value)
        return value

    return watched
