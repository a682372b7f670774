"""A network in a runtime, ready to be run there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from ...plugin import Ready, ask, runtimes
from .inference import Batch, arguments_of, evaluating, members


class Flat(nn.Module):
    """A network as a function of the tensors in a batch, in a fixed order, that gives a tuple."""

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        super().__init__()
        self.model = model
        self.batch = _filled(batch, iter(()))

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        arguments, keywords = arguments_of(_filled(self.batch, iter(given)))
        return tuple(members(self.model(*arguments, **keywords)))


class _Hole:
    """Where a batch has a tensor."""


def _filled(value: Any, given: Iterator[Tensor]) -> Any:
    """The same with the next tensor in each hole; without tensors, a hole for each."""
    if isinstance(value, Tensor):
        return _Hole()
    if isinstance(value, _Hole):
        return next(given)
    if type(value) in (list, tuple):
        return type(value)([_filled(one, given) for one in value])
    if type(value) is dict:
        return {name: _filled(one, given) for name, one in value.items()}
    return value


def inputs_of(batch: Batch) -> tuple[Tensor, ...]:
    """The tensors in a batch, in the order in which `Flat` takes them."""
    return tuple(members(batch))


def prepared(runtime: str, model: nn.Module, batch: Batch) -> Ready:
    """The network in a runtime, on the tensors in a batch.

    Raises `ValueError`, naming the runtime, for what that cannot run.
    """
    choice = runtimes.choose(runtime)
    with evaluating(model):
        try:
            return ask(choice.plugin.prepare, Flat(model, batch).eval(), inputs_of(batch))
        except ValueError as refusal:
            raise ValueError(
                f"runtime={choice.spelled} cannot run the network: {refusal}"
            ) from refusal


def placed(runtime: str, model: nn.Module, batch: Batch) -> Callable[[], object]:
    """One run on a batch, in a runtime; raises as `prepared` does."""
    run, inputs = prepared(runtime, model, batch), inputs_of(batch)
    return lambda: run(*inputs)
