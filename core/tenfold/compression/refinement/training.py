"""A compressed network trained towards what the original gives at the ends of its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...layer import FactorizedConv, JointConv
from ..running import Batch, call, evaluating, tensors
from ..survey import Subject
from .blocks import Block, Place, watched
from .ends import Ends, squares
from .rotated import Rotated

INNER = 3.0  # what the ends of blocks count together, beside the output
LARGE = 2**22  # numbers of a dense weight, above which it stays


class Towards:
    """What is wanted of a network on some batches, and the way there.

    Each tensor's change counts relative to the whole of it, over all of the batches.
    """

    def __init__(
        self, found: Sequence[Block], batches: Sequence[Batch], wanted: Sequence[Ends]
    ) -> None:
        self.found, self.batches, self.wanted = found, batches, wanted
        sums: dict[Place, float] = {}
        for given in wanted:
            for place, one in given.items():
                sums[place] = sums.get(place, 0.0) + float(squares(one, one)[1])
        inner = sum(isinstance(place[0], str) for place in sums)
        shares = (1 / max(1, len(sums) - inner), INNER / max(1, inner))
        self.gains = {
            place: len(batches) * shares[isinstance(place[0], str)] / own
            for place, own in sums.items()
            if own
        }

    def loss(self, model: nn.Module, index: int) -> Tensor | None:
        """Of one batch; None where nothing that is wanted depends on what is trained."""
        parts: list[Tensor] = []

        def compare(place: Place, x: Tensor) -> None:
            wanted = self.wanted[index].get(place)
            if wanted is not None and place in self.gains and x.requires_grad:
                parts.append(self.gains[place] * squares(wanted, x)[0])

        with watched(model, self.found, compare):
            for number, output in enumerate(tensors(call(model, self.batches[index]))):
                compare((number, 0), output)
        return torch.stack(parts).sum() if parts else None

    def epochs(
        self,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        count: int,
        rate: float,
        seed: int,
    ) -> Iterator[int]:
        """Go through the batches so many times, in another order each; yield after each time.

        Raises `ValueError` where no gradient reaches the parameters.
        """
        steps = Rotated(parameters, count * len(self.batches), rate)
        generator = torch.Generator().manual_seed(seed)
        for epoch in range(count):
            with evaluating(model), torch.enable_grad():
                for index in torch.randperm(len(self.batches), generator=generator).tolist():
                    loss = self.loss(model, index)
                    if loss is not None:
                        loss.backward()
                        steps.step()
            if not steps.steps:
                raise ValueError("no gradient reaches them")
            yield epoch


def trained(model: nn.Module, subject: Subject, found: Sequence[Block]) -> list[nn.Parameter]:
    """What may change in blocks: what the correction may, and normalisations of it."""
    inside = {name for block in found for name in block.layers}
    parameters: list[nn.Parameter] = []
    for layer in subject.layers:
        if layer.name not in inside:
            continue
        for name in (layer.name, layer.follower):
            module = None if name is None else model.get_submodule(name)
            large = LARGE if not isinstance(module, FactorizedConv | JointConv) else float("inf")
            if module is not None:
                parameters += [p for p in module.parameters() if p.numel() <= large]
    return list(dict.fromkeys(parameters))


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
