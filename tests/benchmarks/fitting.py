"""How `training.py` trains any network: one cycle of learning rates, epoch by epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from trained_networks import macs, numel

from tenfold import frobenius_decay
from tenfold.demo.data import accuracy, channels_last
from tenfold.demo.train import augmented

DECAY, RATE = 5e-4, 0.2 / 128  # the rate is that of one image of a batch
TAUGHT, TEMPERATURE = 0.9, 2.0  # of the loss, where there is a teacher; of both softmaxes
WATCHED = 2000  # test images that the curve is of; its end is of all
# `train` and `test` images and labels, `batch`, `amp`; the dense states `kept`, and the `places`
# where those of trainings of fewer epochs are
Data = dict[str, Any]
State = dict[str, Any]
Course = tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]


def cycle(groups: Any, data: Data, epochs: int, speed: float = 1.0) -> Course:
    """SGD, and one cycle of its learning rate, the highest `speed` times the usual one."""
    batch = data["batch"]
    optimizer = torch.optim.SGD(groups, lr=RATE * batch / 25, momentum=0.9, nesterov=True)
    rates = [RATE * batch * group.pop("speed", speed) for group in groups]
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
    teacher: nn.Module | None = None,
) -> dict[str, Any]:
    """Train, from the start or `since` a state given to `keep`; the accuracy after each epoch."""
    channels_last(model)
    scores, seconds = ([], []) if since is None else ([*since["scores"]], [*since["seconds"]])
    if since is not None:
        torch.set_rng_state(since["rng"])
    for epoch in range(len(scores), epochs):
        started = time.process_time()
        learn(model, data, course, penalty, teacher)
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


def learn(
    model: nn.Module,
    data: Data,
    course: Course,
    penalty: Callable[[nn.Module], Tensor] | None,
    teacher: nn.Module | None,
) -> None:
    """One epoch; with `amp` layers compute in bfloat16, loss and penalty in float32."""
    model.train()
    optimizer, schedule = course
    images, labels = data["train"]
    batch = data["batch"]
    for rows in torch.randperm(len(images))[: len(images) // batch * batch].split(batch):
        given = augmented(images[rows]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=data["amp"]):
            made = model(given)
            with torch.no_grad():
                shown = None if teacher is None else teacher(given).float()
        loss = F.cross_entropy(made.float(), labels[rows])
        if shown is not None:
            loss = (1 - TAUGHT) * loss + TAUGHT * divergence(made.float(), shown)
        if penalty is not None:
            loss = loss + penalty(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def divergence(made: Tensor, shown: Tensor) -> Tensor:
    """From a teacher's softened classes (Hinton et al. 2015, arXiv 1503.02531)."""
    own, theirs = ((one / TEMPERATURE).log_softmax(1) for one in (made, shown))
    return TEMPERATURE**2 * F.kl_div(own, theirs, reduction="batchmean", log_target=True)


def plain(model: nn.Module) -> Any:
    """All parameters with the optimizer's own decay."""
    return [{"params": list(model.parameters()), "weight_decay": DECAY}]


def decayed(model: nn.Module) -> Tensor:
    return frobenius_decay(model, DECAY)
