"""Batches as loaders give them: what of one is for the model, and what is labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from .inference import Batch, arguments_of, call, evaluating, members

Part = int | str | Callable[[Any], Any] | None
LABELS = ("label", "labels", "target", "targets", "y")  # keys that a dict has them under


def parted(model: nn.Module, batch: Any, name: str, inputs: Part = None) -> tuple[Batch, Any]:
    """What of a batch the model takes, and what are its labels; None where it has none.

    `inputs` says which part: an index, a key, or a function of the batch. Without it there is one
    rule: what the model's `forward` takes is taken whole; of a tuple or list that it does not take
    the last part is the labels, and of a dict what is under one of `LABELS`.

    Raises `TypeError` for what is no input, by its `name`.
    """
    if inputs is not None:
        chosen = _chosen(batch, name, inputs)
        check_call(model, chosen, name)
        return chosen, _rest(batch, inputs)
    if not _takes(model, batch):
        found, labels = _rest_of(batch)
        if labels is not None and _takes(model, found):
            check_tensors(found, name)
            return found, labels
    check_call(model, batch, name)
    return batch, None


def check_part(name: str, value: Any) -> None:
    """Refuse what names no part of a batch, with a `TypeError`."""
    one = isinstance(value, int | str) and not isinstance(value, bool)
    if value is not None and not one and not callable(value):
        raise TypeError(
            f"{name}={value!r} must be an index, a key or a function of a batch, as {name}=0"
        )


def check_call(model: nn.Module, batch: Batch, name: str) -> None:
    """Refuse, with a `TypeError`, a batch that is not what the model's `forward` takes."""
    arguments, keywords = arguments_of(batch)
    check_tensors(batch, name)
    try:
        inspect.signature(model.forward).bind(*arguments, **keywords)
    except ValueError:
        return
    except TypeError as fault:
        raise TypeError(
            f"{name} is not what the model takes ({fault}): give a tensor, a tuple of arguments or "
            "a dict of keywords, with inputs=0 where the first part alone is meant; a dict that is "
            "one argument as ({…},), and a list as ([…],)"
        ) from None


def check_tensors(batch: Batch, name: str) -> None:
    """Refuse NumPy's arrays, with a `TypeError`."""
    for value in (batch, *arguments_of(batch)[0], *arguments_of(batch)[1].values()):
        if isinstance(value, np.ndarray):
            raise TypeError(
                f"{name} is a NumPy array of shape {value.shape} and {value.dtype}: give a tensor, "
                "as torch.from_numpy(…).float()"
            )


def check_runs(model: nn.Module, batches: Mapping[str, Batch]) -> None:
    """Refuse, with a `ValueError`, a batch that does not run through the model, by its name.

    One is run of each shape and dtype. It says what runs instead, where that is known.
    """
    known: dict[Any, str] = {}
    for name, batch in batches.items():
        kind = tuple((one.shape[1:], one.dtype) for one in members(batch))
        fault = None if kind in known else _fault(model, batch)
        if fault is not None:
            remedy = "give what the model takes"
            if isinstance(batch, Tensor) and batch.dim() and _fault(model, batch[None]) is None:
                remedy = f"the axis of the batch is missing: give {(1, *batch.shape)}"
            elif isinstance(batch, tuple | list) and _fault(model, ([*batch],)) is None:
                remedy = "a list stands for several arguments: give one that is one as ([…],)"
            elif known:
                remedy = f"give what has the shape {next(iter(known.values()))}"
            raise ValueError(
                f"{name} do not run through the model ({fault}); of shape {_shape(batch)}: {remedy}"
            )
        known[kind] = _shape(batch)


def _shape(batch: Batch) -> str:
    return ", ".join(str(tuple(one.shape)) for one in members(batch)) or "none"


def _fault(model: nn.Module, batch: Batch) -> str | None:
    try:
        with evaluating(model):
            call(model, batch)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as fault:
        return str(fault).partition("\n")[0]
    return None


def _takes(model: nn.Module, batch: Batch) -> bool:
    arguments, keywords = arguments_of(batch)
    try:
        inspect.signature(model.forward).bind(*arguments, **keywords)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _rest_of(batch: Any) -> tuple[Batch, Any]:
    """A batch without its labels, and these; None where it cannot have any."""
    if isinstance(batch, Mapping):
        names = [name for name in LABELS if name in batch]
        if names and len(batch) > 1:
            return {k: v for k, v in batch.items() if k not in names}, batch[names[0]]
    elif isinstance(batch, tuple | list) and len(batch) > 1:
        found = batch[:-1]
        return (found[0] if len(found) == 1 else found), batch[-1]
    return batch, None


def _chosen(batch: Any, name: str, inputs: Part) -> Batch:
    if callable(inputs):
        return inputs(batch)
    try:
        return batch[inputs]
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, OverflowError) as fault:
        parts = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise TypeError(
            f"inputs={inputs!r} is no part of {name}, which is {parts} ({fault}): give an index of "
            "a tuple, a key of a dict, or a function of the batch"
        ) from None


def _rest(batch: Any, inputs: Part) -> Any:
    """The labels, where `inputs` says what they are not."""
    if isinstance(batch, tuple | list) and len(batch) == 2 and inputs in (0, 1, -1, -2):
        return batch[1 - inputs % 2]
    return _rest_of(batch)[1] if isinstance(batch, Mapping) else None
