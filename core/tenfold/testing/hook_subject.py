"""A hook plugin as what a law judges: an object or a module, made anew for each trial."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from .. import factorizations
from ..plugin import installed_hook, only_hooks
from .example import Example
from .strategies import kernels


@dataclass(frozen=True)
class HookSubject:
    """A hook plugin, and the rank requests or the names of layers that it answers."""

    hook: Any
    asks: Sequence[Any]
    orders: Sequence[int]

    @classmethod
    def named(cls, hook: Any, asks: Sequence[Any], orders: Sequence[int]) -> HookSubject:
        """Of a module, an object, or an installed name.

        Raises `ValueError` for what has no hook, and for a name that is not installed.
        """
        found = installed_hook(hook) if isinstance(hook, str) else hook
        subject = cls(found, tuple(asks), tuple(orders))
        if not subject.hooks:
            raise ValueError(f"hook={hook!r} has no function marked with tenfold.hookimpl")
        if "tenfold_rank" in subject.hooks and not asks:
            raise ValueError(f"hook={hook!r} is a rank rule: give asks=, the requests it answers")
        return subject

    @property
    def hooks(self) -> set[str]:
        """The names of its hooks."""
        with only_hooks(self.hook) as manager:
            return {caller.name for caller in manager.get_hookcallers(self.hook) or ()}

    def __str__(self) -> str:
        return f"hook={getattr(self.hook, '__name__', None) or type(self.hook).__name__}"

    def of(self, order: int) -> HookSubject:
        """The same, tried on one order."""
        return replace(self, orders=(order,))

    @contextmanager
    def anew(self) -> Iterator[Any]:
        """The hooks to call, with the plugin as it is before its first call."""
        with only_hooks(_anew(self.hook)) as manager:
            yield manager.hook

    def draw_kernel(self, example: Example) -> Tensor:
        """Draw a kernel `(out, in, *k)`, normal in float64."""
        return example.draw("kernel", kernels(self.orders))

    def draw_format(self, example: Example) -> Any:
        """Draw one of tenfold's formats."""
        name = example.draw("factorization", st.sampled_from(factorizations.shipped()))
        return factorizations[name]()


def another(kernel: Tensor) -> Tensor:
    """A kernel of the same shape, with next to nothing but its largest part."""
    first = kernel.flatten(1)[:, :1] @ kernel.flatten(1)[:1]
    return (first + 1e-3 * torch.ones_like(first)).reshape(kernel.shape)


def _anew(hook: Any) -> Any:
    if not isinstance(hook, ModuleType):
        return copy.deepcopy(hook)
    spec = hook.__spec__
    if spec is None or spec.loader is None:
        return hook
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made
