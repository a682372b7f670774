"""A plugin's options: what it prints by, and compares by, however its constructor was written."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


class Options:
    """Of a dataclass without a constructor of its own, its fields; else the call that made it."""

    def __new__(cls, *given: Any, **named: Any) -> Any:
        made = super().__new__(cls)
        if has_own_constructor(cls):
            object.__setattr__(made, "_made_by", (given, named))
        return made

    def _options(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        own: tuple[tuple[Any, ...], dict[str, Any]] | None = self.__dict__.get("_made_by")
        named = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        return ((), named) if own is None else own

    def __repr__(self) -> str:
        given, named = self._options()
        words = [*map(repr, given), *(f"{name}={value!r}" for name, value in named.items())]
        return f"{type(self).__qualname__}({', '.join(words)})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, Options)
        return self._options() == other._options()

    def __hash__(self) -> int:
        return hash(repr(self))


def has_own_constructor(cls: type) -> bool:
    """Whether `__init__` was written by hand, not made by `dataclass`."""
    owner = next(one for one in cls.__mro__ if "__init__" in vars(one))
    made = vars(owner).get("__dataclass_params__")
    return made is None or not made.init
