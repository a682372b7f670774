"""What the layers before a changed one gave, kept so that they need not run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..running import Batch, call, evaluating, hooked, tensors


class Replay:
    """The outputs of some layers on some batches: as many as take `memory` bytes.

    `names` are those of all layers, in their order. One whose outputs are not kept runs itself.
    """

    def __init__(self, names: Sequence[str], batches: Sequence[Batch], memory: int) -> None:
        self.names, self.left = names, memory
        self.calls: list[list[tuple[str, Tensor | None]]] = [[] for _ in batches]

    @classmethod
    def whole(
        cls, model: nn.Module, names: Sequence[str], batches: Sequence[Batch], memory: int
    ) -> Replay:
        """Of all of the layers, from a run of the model on each batch."""
        made = cls(names, batches, memory)
        made.run(model, batches)
        return made

    def run(self, model: nn.Module, batches: Sequence[Batch]) -> list[list[Tensor]]:
        """Keep what all layers give, as far as that is kept; what the model returns."""
        found = []
        for index, batch in enumerate(batches):
            with evaluating(model), self.keeping(model, None, index):
                found.append(tensors(call(model, batch)))
        return found

    @contextmanager
    def keeping(self, model: nn.Module, name: str | None, batch: int) -> Iterator[None]:
        """Keep, from a run inside, what is given by the layers in front of `name`, or by all.

        That is what they give before any other layer runs. What is kept already answers from
        memory.
        """
        done = self.names if name is None else self.names[: self.names.index(name)]
        known: dict[str, list[Tensor | None]] = {}
        for who, output in self.calls[batch]:
            known.setdefault(who, []).append(output)
        made: list[tuple[str, Tensor | None]] = []
        ends = False

        def hook(who: str) -> Callable[..., None]:
            def keep(_: nn.Module, given: Any, output: Any) -> None:
                nonlocal ends
                ends = ends or who not in done
                there = known.get(who)
                old = there.pop(0) if there else None
                if old is None and who in kept and not ends:
                    old = self._copied(output)
                made.append((who, old))

            return keep

        modules = {who: model.get_submodule(who) for who in self.names}
        kept = {who for who in done if not _is_hooked(modules[who])}
        handles = [module.register_forward_hook(hook(who)) for who, module in modules.items()]
        with hooked(handles), self.before(model, name, batch):
            yield
        self.calls[batch] = made

    def _copied(self, output: Any) -> Tensor | None:
        if not isinstance(output, Tensor):
            return None
        size = output.numel() * output.element_size()
        if size > self.left:
            return None
        self.left -= size
        return output.detach().clone()

    @contextmanager
    def before(self, model: nn.Module, name: str | None, batch: int) -> Iterator[None]:
        """Let the layers whose calls all come before the first of `name` answer from memory."""
        calls = self.calls[batch]
        first = next((at for at, (who, _) in enumerate(calls) if who == name), 0)
        later = {who for who, _ in calls[first:]}
        answers: dict[str, list[Tensor | None]] = {}
        for who, output in calls[:first]:
            if who not in later:
                answers.setdefault(who, []).append(output)
        whole = {
            who: [one for one in outputs if one is not None] for who, outputs in answers.items()
        }
        kept = {who: found for who, found in whole.items() if len(found) == len(answers[who])}
        modules: list[Any] = [model.get_submodule(who) for who in kept]
        try:
            for module, outputs in zip(modules, kept.values(), strict=True):
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
