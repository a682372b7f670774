"""A compressed network trained towards what the original gives at the ends of its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...layer import FactorizedConv, JointConv
from ..running import Batch, call, evaluating, tensors
from ..survey import Subject
from .blocks import Block, Place, watched
from .ends import Ends, squares
from .steps import Steps

INNER = 3.0  # what the ends of blocks count together, beside the output
LOOKED = 4  # times an epoch, whether losses have risen
RISEN = 1.1  # times what they were before any step
SLOWER = 8  # where they have, the highest step is such a part of what it was there; once
DUE = 1, 2  # epochs, of the first steps and of smaller ones, after which they should have paid
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
        self.holes: set[tuple[int, Place]] = set()  # where not all of it is finite
        for index, given in enumerate(wanted):
            for place, one in given.items():
                sums[place] = sums.get(place, 0.0) + float(squares(one, one)[1])
                if not bool(torch.isfinite(one).all()):
                    self.holes.add((index, place))
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
            if wanted is None or place not in self.gains or not x.requires_grad:
                return
            if x.shape == wanted.shape and (index, place) not in self.holes:
                gap = F.mse_loss(x, wanted, reduction="sum")
            else:
                gap, _ = squares(wanted, x)
            parts.append(self.gains[place] * gap)

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
        before: Sequence[float],
    ) -> Iterator[tuple[bool, list[Tensor]]]:
        """Go through the batches so many times, in another order each; yield after each time.

        Where the losses rise above those `before`, it goes back to where they had not and on in
        smaller steps, or it ends. What is given is whether the steps should have paid by now, and
        what parameters were this time on average. Raises `ValueError` where no gradient reaches the
        parameters.
        """
        way = _Way(parameters, count * len(self.batches), rate)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(count):
            way.begin()
            with evaluating(model), torch.enable_grad():
                for index in torch.randperm(len(self.batches), generator=generator).tolist():
                    loss = self.loss(model, index)
                    if loss is not None:
                        way.step(loss, before[index])
                    if len(way.losses) * LOOKED >= len(self.batches) and not way.goes_on():
                        return
            if not way.count:
                raise ValueError("no gradient reaches them")
            yield way.steps.steps // len(self.batches) == DUE[way.smaller], way.mean()

    def losses(self, model: nn.Module) -> list[float]:
        """Of all batches, as the network is; zeros where nothing depends on what is trained."""
        found = []
        with evaluating(model), torch.enable_grad():
            for index in range(len(self.batches)):
                loss = self.loss(model, index)
                found.append(0.0 if loss is None else float(loss.detach()))
        return found


class _Way:
    """Steps from some parameters; where losses rise, smaller ones from where they had not."""

    def __init__(self, parameters: Sequence[nn.Parameter], total: int, rate: float) -> None:
        self.left, self.smaller = total, False
        self.steps = Steps(parameters, total, rate)
        self.known = self.last = self._here()  # where losses had not risen, and where to find out
        self.losses: list[tuple[float, float]] = []  # and what they were before any step
        self.begin()

    def _here(self) -> list[Tensor]:
        return [one.detach().clone() for one in self.steps.parameters]

    def begin(self) -> None:
        """Take the mean of the parameters from here on."""
        self.sums = [torch.zeros_like(one.detach()) for one in self.steps.parameters]
        self.count = 0

    def mean(self) -> list[Tensor]:
        """What parameters were after the steps, on average."""
        return [one / self.count for one in self.sums]

    def step(self, loss: Tensor, before: float) -> None:
        """One step down a loss, which was so much before any step."""
        loss.backward()
        self.steps.step()
        self.left -= 1
        self.losses.append((float(loss.detach()), before))
        self.count += 1
        for whole, one in zip(self.sums, self.steps.parameters, strict=True):
            whole.add_(one.detach())

    @torch.no_grad()
    def goes_on(self) -> bool:
        """Look at the last losses; whether, if they have risen, there are smaller steps to try."""
        now, before = map(sum, zip(*self.losses, strict=True))
        self.losses.clear()
        if now <= RISEN * before:
            self.known = self.last if now <= before else self.known
            self.last = self._here()
            return True
        for one, value in zip(self.steps.parameters, self.known, strict=True):
            one.copy_(value)
        if self.smaller:
            return False
        self.last, self.smaller = self.known, True
        rate = self.steps.gain / SLOWER
        self.steps = Steps(self.steps.parameters, max(1, self.left), rate)
        return True


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
