"""What the layers before a changed one gave, kept so that they need not run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..running import Batch, call, evaluating, hooked


class Replay:
    """The outputs of some layers, by name, on some batches.

    Nothing is kept, and everything runs, where they would take more than `memory` bytes.
    """

    def __init__(
        self, model: nn.Module, names: Sequence[str], batches: Sequence[Batch], memory: int
    ) -> None:
        self.calls: list[list[tuple[str, Tensor]]] = []
        self.left = memory
        for batch in batches:
            self.calls.append([])
            handles = [
                module.register_forward_hook(self._keeping(name))
                for name in names
                if not _is_hooked(module := model.get_submodule(name))
            ]
            with hooked(handles), evaluating(model):
                call(model, batch)
            if self.left < 0:
                self.calls = [[] for _ in batches]
                break

    def _keeping(self, name: str) -> Callable[..., None]:
        def keep(_: nn.Module, given: Any, output: Any) -> None:
            if self.left >= 0 and isinstance(output, Tensor):
                self.left -= output.numel() * output.element_size()
                self.calls[-1].append((name, output.detach().clone()))

        return keep

    @contextmanager
    def before(self, model: nn.Module, name: str, batch: int) -> Iterator[None]:
        """Let the layers whose calls all come before the first of `name` answer from memory."""
        calls = self.calls[batch]
        first = next((at for at, (who, _) in enumerate(calls) if who == name), 0)
        later = {who for who, _ in calls[first:]}
        answers: dict[str, list[Tensor]] = {}
        for who, output in calls[:first]:
            if who not in later:
                answers.setdefault(who, []).append(output)
        modules: list[Any] = [model.get_submodule(who) for who in answers]
        try:
            for module, outputs in zip(modules, answers.values(), strict=True):
                module.forward = _answering(outputs)
            yield
        finally:
            for module in modules:
                module.__dict__.pop("forward", None)


def _answering(outputs: Sequence[Tensor]) -> Callable[..., Tensor]:
    rest = iter(outputs)

    def forward(*_: Any, **__: Any) -> Tensor:
        return next(rest).clone()  # what comes after may work in place

    return forward


def _is_hooked(module: nn.Module) -> bool:
    own = "forward" in module.__dict__
    return bool(own or module._forward_hooks or module._forward_pre_hooks)
