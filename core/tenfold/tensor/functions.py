"""How PyTorch's functions meet a factorized tensor: by a handler, or made dense."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .arithmetic import DENSE, HANDLERS


def call(
    kind: Any, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """What a function gives for arguments among which `kind`s are: factorized where it can.

    Raises `TypeError` for one that writes into a factorized tensor.
    """
    handler = HANDLERS.get(function)
    found = DENSE if handler is None else handler(kind, *args, **kwargs)
    if found is not DENSE:
        return found
    name = getattr(function, "__name__", str(function))
    writes = name.endswith("_") and not name.endswith("__")
    first = next(iter((*args, *kwargs.values())), None)
    if isinstance(kwargs.get("out"), kind) or (writes and isinstance(first, kind)):
        raise TypeError(
            f"{name} would write into a factorized tensor, whose elements are no memory: call "
            "normal_(), or change its factors"
        )
    return function(*_dense(kind, list(args)), **_dense(kind, dict(kwargs)))


def _dense(kind: Any, value: Any) -> Any:
    """The same with the dense tensor in each one's place, also inside lists and dicts."""
    if isinstance(value, kind):
        return value.to_tensor()
    if isinstance(value, dict):
        return {key: _dense(kind, one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_dense(kind, one) for one in value)
    return value
