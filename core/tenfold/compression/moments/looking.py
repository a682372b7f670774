"""What is looked at on the way: patches and answers of the original, in the run for gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..survey import Layer
from .gathering import drawn
from .importance import FLOOR
from .sampling import Sampling
from .visit import Look, Visit


class Passing:
    """One call of a layer in a run, whose gradient is yet to come."""

    def __init__(self, layer: Layer, x: Tensor, y: Tensor) -> None:
        self.layer, self.x, self.y = layer, x.detach(), y.detach()
        self.versions = self._versions()

    def _versions(self) -> tuple[int, int] | None:
        """None of tensors that count none, as those made in inference mode."""
        if self.x.is_inference() or self.y.is_inference():
            return None
        return self.x._version, self.y._version

    @property
    def whole(self) -> bool:
        """Whether it is known that nothing has worked on the tensors in place since."""
        return self.versions is not None and self._versions() == self.versions


class Looking:
    """Shows some looks what goes by, at places drawn by the gradients there.

    A layer on whose tensors the network works in place afterwards is dropped, and everything where
    there are no gradients: what was to be seen takes a run of its own then.
    """

    def __init__(
        self, layers: Sequence[Layer], looks: Sequence[Look], batches: int, memory: int, seed: int
    ) -> None:
        self.looks = looks
        self.samplings = {
            layer.name: Sampling(layer, batches, drawn(layer, memory, batches), seed)
            for layer in layers
        }
        self.levels: dict[str, float] = {}
        self.given: dict[str, Tensor] = {}

    def hooks(self, model: nn.Module) -> list[Any]:
        """Those of the looks, and what sees what each layer gives before users' hooks do."""
        own = [
            model.get_submodule(name).register_forward_hook(self._keeper(name), prepend=True)
            for name in self.samplings
        ]
        return [*own, *(handle for look in self.looks for handle in look.hooks(model))]

    def _keeper(self, name: str) -> Callable[..., None]:
        def keep(_: nn.Module, __: Any, output: Tensor) -> None:
            self.given[name] = output

        return keep

    def passing(self, layer: Layer, x: Tensor) -> Passing:
        """The call that is going on."""
        return Passing(layer, x, self.given.pop(layer.name))

    def begin(self) -> None:
        """Another batch is run."""
        for look in self.looks:
            look.begin()

    def gave(self, output: Any) -> None:
        """That is what the model gave for it."""
        for look in self.looks:
            look.gave(output)

    @torch.no_grad()
    def see(self, batch: int, calls: Sequence[tuple[Passing, Tensor]]) -> None:
        """Take in a batch's calls, with the squared gradients at the places of their outputs."""
        for name in {call.layer.name for call, _ in calls} - self.levels.keys():
            given = [squares.double() for call, squares in calls if call.layer.name == name]
            mean = sum(float(one.sum()) for one in given) / max(1, sum(map(Tensor.numel, given)))
            if 0 < mean < float("inf"):
                self.levels[name] = mean
        for call, squares in calls:
            self._see(batch, call, squares)

    def _see(self, batch: int, call: Passing, squares: Tensor) -> None:
        name = call.layer.name
        if name not in self.samplings:
            return
        if not call.whole:
            del self.samplings[name]
            for look in self.looks:
                look.drop(name)
            return
        where, weights = self.samplings[name].draw(call.x.shape, self.worth(name, squares))
        visit = Visit(call.layer, batch, call.x, call.y, where, weights)
        for look in self.looks:
            look.take(visit)

    def worth(self, name: str, squares: Tensor) -> Tensor | None:
        """With a mean of 1 in the first batch; None where no gradient has arrived, or infinite."""
        if name not in self.levels or not bool(torch.isfinite(squares).all()):
            return None
        return (squares / self.levels[name] + FLOOR) / (1 + FLOOR)

    def forget(self) -> None:
        """The run did not come to its end."""
        for look in self.looks:
            look.forget()
