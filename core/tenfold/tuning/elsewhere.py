"""One layer in a runtime, ready to be timed there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from ..plugin import Runtime, ask, runtimes
from .timing import Who

T = TypeVar("T")
EAGER = "eager"  # the runtime that PyTorch itself is


def worker(runtime: str) -> Who:
    """Who does the work of a run there, for the clock that it is timed by."""
    if runtime == EAGER:
        return "thread"
    return "process" if runtimes.choose(runtime).plugin.in_process else "another"


def engine(runtime: str) -> str:
    """The version of what runs there; empty where that is PyTorch's own.

    Raises `ValueError`, naming the runtime, where there is none.
    """
    return "" if runtime == EAGER else _asked(runtime, lambda plugin: ask(plugin.version))


class _Alone(nn.Module):
    """A layer as a runtime takes a network: it gives a tuple."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layer(x),)


def alone(runtime: str, layer: nn.Module, x: Tensor) -> Callable[[], object]:
    """One run of a layer on `x` in a runtime.

    Raises `ValueError`, naming the runtime, where that cannot run it.
    """
    run = _asked(runtime, lambda plugin: ask(plugin.prepare, _Alone(layer).eval(), (x,)))
    return lambda: run(x)


def _asked(runtime: str, question: Callable[[Runtime], T]) -> T:
    choice = runtimes.choose(runtime)
    try:
        return question(choice.plugin)
    except ValueError as refusal:
        raise ValueError(f"runtime={choice.spelled} cannot run the layer: {refusal}") from refusal
