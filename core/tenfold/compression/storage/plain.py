"""A network as it runs, without its class: an archive of `torch.export`."""

from __future__ import annotations

import copy
import functools
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..running import Batch, arguments_of, evaluating


def write_plain(model: nn.Module, batch: Batch, path: Path) -> None:
    """Write the network in eval mode, for any number of items where it takes any.

    Named tuples among what it gives are written as tuples, dataclasses as dicts, and what is
    neither a tensor nor a number as None. Raises `RuntimeError` where `torch.export` cannot.
    """
    arguments, keywords = arguments_of(batch)
    made = copy.deepcopy(model)
    made.forward = _simply(made.forward)
    with evaluating(made):
        written = _exported(made, arguments, keywords)
        try:
            with warnings.catch_warnings():  # weights with their channels last are whole
                warnings.filterwarnings("ignore", "No complete tensor found in the group")
                torch.export.save(written, path)
        except Exception as fault:  # nor has it one here
            raise _unwritten(fault) from fault


def read_plain(path: Path) -> nn.Module:
    """The network that was written; `FileNotFoundError` or `ValueError`, naming the file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: give load(directory, dense_model) the model that it was made "
            "from, or save(…, example_inputs=x) when saving"
        )
    try:
        return torch.export.load(path).module()
    except Exception as fault:  # an archive fails in many ways
        raise ValueError(f"{path} is damaged or foreign: {fault}") from None


def _exported(model: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """For any batch; where the network does not allow that, for the one that was given."""
    given = (*arguments, *keywords.values())
    free = [
        {0: torch.export.Dim.AUTO} if isinstance(x, Tensor) and x.dim() else None for x in given
    ]
    names = list(keywords)
    shapes: Any = tuple(free[: len(arguments)])
    if names:
        shapes = dict(zip(names, free[len(arguments) :], strict=True))
    tries = ((shapes,) if len(arguments) * len(names) == 0 else ()) + (None,)
    for dynamic in tries:
        try:
            return torch.export.export(model, arguments, keywords, dynamic_shapes=dynamic)
        except Exception as fault:  # torch.export has no class of its own for it
            failed = fault
    raise _unwritten(failed) from failed


def _unwritten(fault: Exception) -> RuntimeError:
    return RuntimeError(f"example_inputs: torch.export cannot write this network: {fault}")


def _simply(forward: Any) -> Any:
    """The same function, that gives what an archive holds: no class but Python's own."""

    @functools.wraps(forward)
    def simple(*arguments: Any, **keywords: Any) -> Any:
        return _simple(forward(*arguments, **keywords))

    return simple


def _simple(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, Mapping):
        pairs = [(name, _simple(one)) for name, one in value.items()]
        return OrderedDict(pairs) if isinstance(value, OrderedDict) else dict(pairs)
    if isinstance(value, tuple | list):
        return (list if isinstance(value, list) else tuple)(map(_simple, value))
    return value if isinstance(value, Tensor | int | float) else None
