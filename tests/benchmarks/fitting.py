"""How `training.py` trains any network: one cycle of learning rates, epoch by epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from trained_networks import macs, numel

from tenfold import frobenius_decay
from tenfold.demo.data import accuracy, channels_last
from tenfold.demo.train import augmented

DECAY, RATE = 5e-4, 0.2 / 128  # the rate is that of one image of a batch
WATCHED = 2000  # test images that the curve is of; its end is of all
# `train` and `test` images and labels, `batch`, `amp`; the dense states `kept`, and the `places`
# where those of trainings of fewer epochs are
Data = dict[str, Any]
State = dict[str, Any]
Course = tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]


def cycle(groups: Any, data: Data, epochs: int) -> Course:
    """SGD, and one cycle of its learning rate."""
    batch = data["batch"]
    optimizer = torch.optim.SGD(groups, lr=RATE * batch / 25, momentum=0.9, nesterov=True)
    rates = [RATE * batch * group.pop("speed", 1.0) for group in groups]
    steps = epochs * (len(data["train"][0]) // batch)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps)


def fit(
    model: nn.Module,
    data: Data,
    epochs: int,
    course: Course,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    since: State | None = None,
    keep: Callable[[State], None] | None = None,
) -> dict[str, Any]:
    """Train, from the start or `since` a state given to `keep`; the accuracy after each epoch."""
    channels_last(model)
    scores, seconds = ([], []) if since is None else ([*since["scores"]], [*since["seconds"]])
    if since is not None:
        torch.set_rng_state(since["rng"])
    for epoch in range(len(scores), epochs):
        started = time.process_time()
        learn(model, data, course, penalty)
        seconds.append(time.process_time() - started)
        part = None if epoch == epochs - 1 else WATCHED
        scores.append(accuracy(model.eval(), *(one[:part] for one in data["test"])))
        if keep is not None:
            states = {one: copy.deepcopy(part.state_dict()) for one, part in parts(model, course)}
            rng = torch.get_rng_state()
            keep({**states, "rng": rng, "scores": [*scores], "seconds": [*seconds]})
    return {
        "scores": scores,
        "seconds": seconds,
        "parameters": numel(model),
        "macs": macs(model),
    }


def parts(model: nn.Module, course: Course) -> list[tuple[str, Any]]:
    return [("model", model), ("optimizer", course[0]), ("schedule", course[1])]


def restore(since: State, model: nn.Module, course: Course) -> None:
    """What the model, its optimizer and its learning rates were in a state that was kept."""
    for one, part in parts(model, course):
        part.load_state_dict(copy.deepcopy(since[one]))


class Batches:
    """Training images, augmented, with their labels, in another order each time through."""

    def __init__(self, data: Data) -> None:
        self.images, self.labels = data["train"]
        self.batch = data["batch"]

    def __len__(self) -> int:
        return len(self.images) // self.batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = torch.randperm(len(self.images))[: len(self) * self.batch]
        for some in rows.split(self.batch):
            given = augmented(self.images[some])
            yield given.contiguous(memory_format=torch.channels_last), self.labels[some]


def learn(
    model: nn.Module, data: Data, course: Course, penalty: Callable[[nn.Module], Tensor] | None
) -> None:
    """One epoch; with `amp` layers compute in bfloat16, loss and penalty in float32."""
    model.train()
    optimizer, schedule = course
    for given, wanted in Batches(data):
        with torch.autocast("cpu", torch.bfloat16, enabled=data["amp"]):
            made = model(given)
        loss = F.cross_entropy(made.float(), wanted)
        if penalty is not None:
            loss = loss + penalty(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def plain(model: nn.Module) -> Any:
    """All parameters with the optimizer's own decay."""
    return [{"params": list(model.parameters()), "weight_decay": DECAY}]


def decayed(model: nn.Module) -> Tensor:
    return frobenius_decay(model, DECAY)
