"""A compressed network trained towards what the original gives at the ends of its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..running import Batch, call, evaluating, tensors
from .ends import Block, Given, squares, watched
from .rotated import Rotated

INNER = 3.0  # what the ends of blocks count together, beside the output


class Towards:
    """How far a network is from what is `wanted` of it on some batches: the loss of one batch.

    Each tensor's change counts relative to the whole of it, over all of the batches.
    """

    def __init__(self, found: Sequence[Block], batches: Sequence[Batch], wanted: Sequence[Given]):
        self.found, self.batches, self.wanted = found, batches, wanted
        norms: dict[tuple[str | int, int], float] = {}
        for one in wanted:
            for at, value in one.ends.items():
                norms[at] = norms.get(at, 0.0) + squares(value, value)[1]
        inner = sum(isinstance(at[0], str) for at in norms)
        self.gains = {
            at: len(batches) * (INNER / inner if isinstance(at[0], str) else 1 / (len(norms) - inner))
            / norm
            for at, norm in norms.items()
            if norm > 0
        }  # fmt: skip

    def loss(self, model: nn.Module, index: int) -> Tensor | None:
        """Of one batch; None where nothing that is wanted depends on what is trained."""
        parts: list[Tensor] = []

        def compare(at: tuple[str | int, int], x: Tensor) -> None:
            wanted = self.wanted[index].ends.get(at)
            if wanted is not None and at in self.gains and x.requires_grad:
                parts.append(self.gains[at] * squares(wanted, x)[0])

        with watched(model, self.found, lambda name, number, x: compare((name, number), x)):
            for number, output in enumerate(tensors(call(model, self.batches[index]))):
                compare((number, 0), output)
        return torch.stack(parts).sum() if parts else None


def train(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    towards: Towards,
    epochs: int,
    rate: float,
    seed: int,
) -> Iterator[int]:
    """Go through the batches so many times, each time in another order; yield each epoch."""
    count = len(towards.batches)
    steps = Rotated(parameters, epochs * count)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        with evaluating(model), torch.enable_grad():
            for index in torch.randperm(count, generator=generator).tolist():
                loss = towards.loss(model, index)
                if loss is not None:
                    loss.backward()  # type: ignore[no-untyped-call]
                    steps.step(rate)
        yield epoch


@contextmanager
def trainable(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Gradients for these parameters alone; what each asked for is as before afterwards."""
    asked = {one: one.requires_grad for one in model.parameters()}
    try:
        model.requires_grad_(False)
        for one in parameters:
            one.requires_grad_(True)
        yield
    finally:
        for one, wanted in asked.items():
            one.requires_grad_(wanted)
            one.grad = None
