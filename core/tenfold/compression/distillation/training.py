"""A training of a compressed network towards its original: steps, rates, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..running import Batch, Part, parted, shown
from .checkpoint import read_checkpoint, write_checkpoint
from .epochs import Epochs
from .matching import Matching
from .processes import Processes

WARM_UP = 0.1  # of all steps
SAVED_EVERY = 100  # steps


@dataclass
class Training:
    """A student, its optimizer, and how many steps they have made."""

    student: nn.Module
    parameters: list[nn.Parameter]
    matching: Matching
    make: Callable[[list[nn.Parameter], float], Optimizer]
    course: dict[str, Any]  # what another checkpoint is told by: `lr` and the like
    amp: torch.dtype | None
    processes: Processes
    judged: Epochs
    inputs: Part = None
    steps: int = 0
    optimizer: Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.device = self.parameters[0].device
        self.optimizer = self.make(self.parameters, self.course["lr"])
        if not isinstance(self.optimizer, Optimizer):
            found = type(self.optimizer).__name__
            raise TypeError(f"optimizer= gave {found}, and not an optimizer of PyTorch's kind")
        self.highest = [group["lr"] for group in self.optimizer.param_groups]
        wanted = self.amp == torch.float16 and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=wanted)

    def run(
        self, batches: Iterable[Batch], epochs: int, place: Path | None, progress: bool
    ) -> None:
        """Go through the batches, past those of the steps that were made before."""
        model = self.processes.wrapped(self.student)
        each = self.processes.steps(batches)
        total = None if each is None else each * epochs
        done, before = self.steps, 0
        with shown(progress) as bar:
            for epoch in range(epochs):
                mine = self.processes.share(batches, epoch)
                for batch in bar.over(mine, f"distillation {epoch + 1}/{epochs}", each):
                    before += 1
                    if before > done:
                        self.step(model, batch, total)
                        if self.steps % SAVED_EVERY == 0:
                            self.save(place)
                if before and epoch >= len(self.judged.scores):
                    said = self.judged.judge(self.student)
                    bar.say(said)
                    if said is not None:
                        self.save(place)
                if self.judged.over:
                    break
        if not before:
            raise ValueError("batches has none: give some inputs")
        if self.steps > done:
            self.save(place)
        self.judged.settle(self.student)

    def step(self, model: nn.Module, batch: Batch, total: int | None) -> None:
        """One batch, and one step of the optimizer."""
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = highest * rate(self.steps, total)
        with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
            given, labels = parted(self.student, batch, "a batch", self.inputs)
            loss: Tensor = self.matching(model, given, labels)
        if not bool(torch.isfinite(loss)):
            found = float(loss.detach())
            raise FloatingPointError(
                f"the loss of step {self.steps + 1} is {found}: lower lr={self.course['lr']}, or "
                "look for NaN in the batch"
            )
        if not loss.requires_grad:
            raise ValueError(
                "student gives its output without gradients: its forward runs under torch.no_grad "
                "or inference_mode, or detaches; take that out of it"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps += 1

    def save(self, place: Path | None) -> None:
        """Write where it stands, once for all processes."""
        if place is None:
            return
        if self.processes.rank == 0:
            state = {
                "steps": self.steps,
                "course": self.course,
                "student": self.student.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "judged": self.judged.state(),
            }
            write_checkpoint(place, state)
        self.processes.wait()

    def restore(self, place: Path, device: torch.device) -> None:
        """Go on from a file; `ValueError` for one of another student or another course."""
        state = read_checkpoint(place, device)
        before = state.get("course", {})
        for name, value in self.course.items():
            if before.get(name) != value:
                raise ValueError(
                    f"checkpoint={place} was written with {name}={before.get(name)!r}, not {name}="
                    f"{value!r}: give that, or another file"
                )
        try:
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.judged.restore(state["judged"])
            self.steps = int(state["steps"])
        except (KeyError, RuntimeError, ValueError) as fault:
            raise ValueError(f"checkpoint={place} is of another student: {fault}") from None


def rate(step: int, total: int | None) -> float:
    """The fraction of the learning rate: up in a line, then down by half a cosine."""
    if total is None:
        return 1.0
    warm = max(1, round(WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm + 1) / (total - warm + 1))) / 2
