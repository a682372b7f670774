"""Names to plugin classes, imported when they are asked for."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from difflib import get_close_matches
from threading import Lock
from typing import Any, Generic, TypeVar

from .added import Sum
from .blame import OURS
from .catalogue import DISABLE, Entry, PluginError, describe, found, remedy
from .factorization import Factorization
from .implementation import Implementation
from .runtime import Runtime

T = TypeVar("T", bound=Factorization | Implementation | Runtime)


@dataclass(frozen=True)
class Choice(Generic[T]):
    """A plugin that was chosen: its name, how the call spelled it, and an instance."""

    name: str
    spelled: str
    plugin: T


class Registry(Generic[T]):
    """The formats, the implementations or the runtimes, by name.

    Names come from the entry points of the installed distributions and from `register`; they are
    lower-case, and looking one up folds case. A class is imported when its name is first asked for.

    >>> "tucker" in factorizations, "tucker" in factorizations.names(), factorizations["Tucker"]
    (True, True, <class 'tenfold_plugins.tucker.Tucker'>)
    >>> factorizations.choose("tucker").plugin.network((8, 4, 3, 3), rank=2).shapes
    ((8, 2), (4, 2), (2, 2, 3, 3))
    """

    def __init__(self, kind: str, group: str, interface: type[T]) -> None:
        self.kind = kind
        self.group = group
        self.interface = interface
        self._registered: dict[str, type[T]] = {}
        self._loaded: dict[str, type[T]] = {}
        self._lock = Lock()

    def names(self) -> list[str]:
        """Every name that is installed or registered, sorted; importing none."""
        return sorted({entry.name for entry in found(self.group)} | set(self._registered))

    def shipped(self) -> list[str]:
        """The names that come with tenfold itself, sorted.

        >>> "cp" in factorizations.shipped()
        True
        """
        return [entry.name for entry in found(self.group) if entry.distribution == OURS]

    def origin(self, name: str) -> str:
        """The distribution and version that a name comes from; empty where it was registered.

        Raises as looking it up does.

        >>> factorizations.origin("cp").split()[0]
        'tenfold'
        """
        if name.lower() in self._registered:
            return ""
        entry = self._entry(name)
        return f"{entry.distribution} {entry.version}"

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self.names()

    def __getitem__(self, name: str) -> type[T]:
        """The class behind a name.

        Raises `ValueError` for an unknown name, and `PluginError` for one that two distributions
        claim, that does not import, that is no such plugin or that is not lower-case.
        """
        if not isinstance(name, str):
            raise TypeError(f"{self.kind}={name!r} must be a name")
        key = name.lower()
        if key in self._registered:
            return self._registered[key]
        if key not in self._loaded:
            self._loaded[key] = self.load(self._entry(name))
        return self._loaded[key]

    def register(self, name: str, cls: type[T]) -> None:
        """Give a class a name in this process, as a notebook does.

        Raises `ValueError` for a name that is taken or not lower-case, `TypeError` for another
        kind of class.

        >>> class Matrix(Factorization):
        ...     def factors(self, order, rank):
        ...         return [("in", "r"), ("r", "out", *(f"k{axis}" for axis in range(order)))]
        >>> factorizations.register("matrix_of_a_notebook", Matrix)
        >>> FactorizedConv(8, 8, (3, 3), rank=2, factorization="matrix_of_a_notebook").rank
        2
        """
        if not isinstance(name, str):
            raise TypeError(f"name={name!r} must be a word")
        if name != name.lower() or not name:
            raise ValueError(f"name={name!r} must be lower-case: use {name.lower() or 'a word'!r}")
        self._check(cls, f"cls={cls!r}", TypeError)
        with self._lock:
            if name in self.names():
                raise ValueError(f"the {self.kind} name {name!r} is taken: choose another")
            self._registered[name] = cls

    def choose(self, asked: str | T | type[T]) -> Choice[T]:
        """Turn what a user gave (a name, a class or an instance) into a plugin.

        Raises as looking up a name does, and `TypeError` for anything else.
        """
        if isinstance(asked, str):
            plugin = self._made(asked)
            return Choice(asked.lower(), repr(asked.lower()), plugin)
        if inspect.isclass(asked):
            self._check(asked, f"{self.kind}={asked!r}", TypeError)
            plugin = asked()
        elif isinstance(asked, self.interface):
            plugin = asked
        else:
            raise TypeError(
                f"{self.kind}={asked!r} must be a name, or a {self.interface.__name__} class or "
                f"instance; the installed names are {', '.join(self.names())}"
            )
        return Choice(type(plugin).__name__, repr(plugin), plugin)

    def _made(self, asked: str) -> T:
        """What a name stands for; formats with `+` between are added."""
        names = [name.strip() for name in asked.split("+")]
        if len(names) > 1 and self.interface is Factorization:
            made: Any = Sum(terms=tuple(factorizations[name]() for name in names))
            return made  # type: ignore[no-any-return]
        return self[asked]()

    def load(self, entry: Entry) -> type[T]:
        """Import one entry point's class.

        Raises `PluginError`, naming the distribution, version and target, where it does not import,
        is no such plugin or is not lower-case.

        >>> from tenfold.plugin.catalogue import found
        >>> entries = found("tenfold.factorizations")
        >>> [factorizations.load(entry) for entry in entries if entry.name == "cp"]
        [<class 'tenfold_plugins.cp.CP'>]
        """
        if entry.name != entry.name.lower():
            raise PluginError(
                f"the {self.kind} plugin {describe(entry)} has a name that is not lower-case: "
                f"its author must call it {entry.name.lower()!r}; {remedy(entry)}"
            )
        label = f"the {self.kind} plugin {describe(entry)}"
        try:
            cls = entry.point.load()
        except (Exception, SystemExit) as fault:
            raise PluginError(
                f"{label} does not import: {type(fault).__name__}: {fault}; {remedy(entry)}"
            ) from fault
        try:
            self._check(cls, label, PluginError)
        except PluginError as fault:
            raise PluginError(f"{fault}; {remedy(entry)}") from None
        loaded: type[T] = cls
        return loaded

    def _check(self, cls: object, label: str, error: type[Exception]) -> None:
        interface = self.interface.__name__
        if not inspect.isclass(cls) or not issubclass(cls, self.interface):
            raise error(f"{label} must be a subclass of tenfold.{interface}")
        if inspect.isabstract(cls):
            missing = ", ".join(sorted(cls.__abstractmethods__))
            raise error(f"{label} is abstract: it must define {missing}")
        required = [
            name
            for name, one in inspect.signature(cls).parameters.items()
            if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        ]
        if required:
            raise error(
                f"{label} cannot be made without {', '.join(required)}: its options need defaults, "
                "or give an instance"
            )

    def _entry(self, name: str) -> Entry:
        entries = found(self.group)
        claims = [entry for entry in entries if entry.name.lower() == name.lower()]
        if not claims:
            names = self.names()
            near = get_close_matches(name.lower(), names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"{self.kind}={name!r} is not installed: {hint}"
                f"The installed names are {', '.join(names) or 'none'}"
            )
        if len(claims) > 1:
            listed = " and ".join(describe(entry) for entry in claims)
            loser = claims[-1]
            raise PluginError(
                f"{self.kind}={name!r} is claimed by {listed}: uninstall one, or set "
                f"{DISABLE}={loser.distribution}:{loser.name}"
            )
        return claims[0]


factorizations: Registry[Factorization] = Registry(
    "factorization",
    "tenfold.factorizations",
    Factorization,  # type: ignore[type-abstract]
)
"""The formats by name: `factorizations.names()` lists them, `factorizations["cp"]` is a class, and
`factorizations.register("name", cls)` adds one in this process."""
implementations: Registry[Implementation] = Registry(
    "implementation",
    "tenfold.implementations",
    Implementation,  # type: ignore[type-abstract]
)
"""The ways of running by name, likewise."""
runtimes: Registry[Runtime] = Registry(
    "runtime",
    "tenfold.runtimes",
    Runtime,  # type: ignore[type-abstract]
)
"""Where networks run, and are timed, by name, likewise."""
REGISTRIES: tuple[Registry[Factorization], Registry[Implementation], Registry[Runtime]] = (
    factorizations,
    implementations,
    runtimes,
)
