"""The pluggy hooks: what a plugin may do besides bringing a format or an implementation.

A plugin is any object or module with functions of these names, marked with `hookimpl`, behind an
entry point of the group `tenfold.hooks`. No hook runs in `forward`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import lru_cache
from threading import RLock
from typing import Any

import pluggy
import torch
from torch import Tensor, nn

from .blame import GROUPS, OURS, ask
from .catalogue import DISABLE, Entry, describe, found, remedy, unmatched
from .hook_calls import Answer, Manager

HOOKS_GROUP = "tenfold.hooks"
_loading = RLock()
_alone: list[Manager] = []  # what is asked instead, the last one
hookspec = pluggy.HookspecMarker("tenfold")
hookimpl = pluggy.HookimplMarker("tenfold")
"""The decorator of a hook plugin's functions, pluggy's `HookimplMarker`; `@hookimpl(wrapper=True)`
makes one that wraps the others. See [Write a plugin](../plugins.md)."""


class Specifications:
    """The hooks, with the arguments that an implementation may name."""

    @hookspec(firstresult=True)
    def tenfold_rank(
        self, request: Any, shape: tuple[int, ...], factorization: Any, kernel: Tensor | None
    ) -> Any:
        """Turn a rank request that core does not know into one that it knows.

        `shape` is `(out, in/groups, *k)`. `kernel` is `(groups, out, in, *k)` in float64, or None
        where a layer is made from scratch. Return an int, a tuple or a fraction, or None to leave
        the request to others.
        """

    @hookspec(firstresult=True)
    def tenfold_select(self, name: str, module: nn.Module) -> dict[str, Any] | bool | None:
        """Say whether, and with what, the layer `name` of a model is factorized.

        Return False to leave it dense, a dict of `from_conv` arguments to use instead of the
        model-wide ones, or None to leave the decision to others.
        """

    @hookspec(firstresult=True)
    def tenfold_decompose(
        self,
        factorization: Any,
        kernel: Tensor,
        network: Any,
        generator: torch.Generator | None,
    ) -> Sequence[Tensor] | None:
        """Decompose `kernel`, `(groups, out, in, *k)` of norm 1 a group, into `network`'s factors.

        Core's own implementation calls `factorization.decompose`. One that returns factors saves
        that work, and one that returns None leaves it to others; a wrapper
        (`@hookimpl(wrapper=True)`) may time it or change what comes of it.
        """


class _Core:
    @hookimpl(trylast=True)
    def tenfold_decompose(
        self,
        factorization: Any,
        kernel: Tensor,
        network: Any,
        generator: torch.Generator | None,
    ) -> Sequence[Tensor]:
        factors: Sequence[Tensor] = ask(factorization.decompose, kernel, network, generator)
        return factors


def plugin_manager() -> Manager:
    """The one plugin manager, of all threads, with every installed hook plugin that loads.

    A hook plugin that does not load, or that implements no such hook, is left out with a warning.
    """
    with _loading:
        return _alone[-1] if _alone else _loaded()


@contextmanager
def only_hooks(*plugins: object) -> Iterator[Manager]:
    """Meanwhile, and in every thread, only tenfold's own hooks and those of `plugins` are asked."""
    manager = _manager(entry for entry in found(HOOKS_GROUP) if entry.distribution == OURS)
    for plugin in plugins:
        if not manager.is_registered(plugin):
            manager.register(plugin)
    _alone.append(manager)
    try:
        yield manager
    finally:
        _alone.remove(manager)


def forget_plugins() -> None:
    """Load the hook plugins anew when they are next asked for."""
    _loaded.cache_clear()


@lru_cache(maxsize=1)
def _loaded() -> Manager:
    for item in unmatched([*GROUPS, HOOKS_GROUP]):
        warnings.warn(
            f"{DISABLE} lists {item!r}, and no installed plugin is called so: write "
            "distribution:name, parted by commas; `tenfold plugins` lists them",
            RuntimeWarning,
            stacklevel=4,
        )
    return _manager(found(HOOKS_GROUP))


def _manager(entries: Iterable[Entry]) -> Manager:
    manager = _empty_manager()
    manager.register(_Core(), "tenfold")
    for entry in entries:
        try:
            manager.register(check_hook_plugin(entry), describe(entry))
        except (Exception, SystemExit) as fault:
            warnings.warn(
                f"the hook plugin {describe(entry)} is left out: {type(fault).__name__}: {fault}; "
                f"{remedy(entry)}",
                RuntimeWarning,
                stacklevel=4,
            )
    return manager


def check_hook_plugin(entry: Entry) -> object:
    """Import a hook plugin and check its hooks against the specifications.

    Raises what its import raises, and `pluggy.PluginValidationError` for a hook that is none.
    """
    plugin: object = entry.point.load()
    check_hooks(plugin)
    return plugin


def check_hooks(plugin: object) -> None:
    """Refuse what has no hook, or one that is none, with a `pluggy.PluginValidationError`."""
    alone = _empty_manager()
    name = alone.register(plugin)
    alone.check_pending()
    known = [one for one in dir(Specifications) if one.startswith("tenfold_")]
    bare = [
        one for one in dir(plugin) if one.startswith("tenfold_") and not _is_marked(plugin, one)
    ]
    for one in bare:
        near = get_close_matches(one, known, n=1)
        if near and callable(getattr(plugin, one)):
            meant = "" if near[0] == one else f", and is misspelt: did you mean {near[0]!r}?"
            raise pluggy.PluginValidationError(
                plugin, f"its function {one} is not marked with @tenfold.hookimpl{meant}"
            )
    if not alone.get_hookcallers(plugin):
        raise pluggy.PluginValidationError(
            plugin, f"{name} has no hook: mark functions named {', '.join(known)} with hookimpl"
        )


def _is_marked(plugin: object, name: str) -> bool:
    return hasattr(getattr(plugin, name), "tenfold_impl")


def installed_hook(name: str) -> object:
    """Import the hook plugin that is installed under a name.

    Raises `ValueError` where there is none, and as `check_hook_plugin` does.
    """
    for entry in found(HOOKS_GROUP):
        if entry.name == name:
            return check_hook_plugin(entry)
    known = ", ".join(entry.name for entry in found(HOOKS_GROUP)) or "none"
    raise ValueError(f"hook={name!r} is not installed: the installed names are {known}")


def _empty_manager() -> Manager:
    manager = Manager("tenfold")
    manager.add_hookspecs(Specifications)
    return manager


def ask_hooks(name: str, /, **arguments: Any) -> Answer:
    """Ask one hook of all plugins: the answer, and whose it is.

    Raises what a plugin raises, with a note of whose it is.
    """
    return plugin_manager().ask(name, **arguments)


def plugin_hooks() -> Any:
    """The callable hooks: `plugin_hooks().tenfold_rank(request=…, …)`."""
    return plugin_manager().hook
