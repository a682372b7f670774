"""Fine-tune a compressed network against its original, without labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...arguments import (
    check_batches,
    check_flag,
    check_model,
    check_names,
    check_number,
    check_path,
)
from ..running import Batch, shown
from .checkpoint import read_checkpoint, write_checkpoint
from .matching import Loss, Matching, relative
from .processes import Processes, joined

M = TypeVar("M", bound=nn.Module)
WARM_UP = 0.1  # of all steps
SAVED_EVERY = 100  # steps


def distill(
    student: M,
    teacher: nn.Module,
    batches: Iterable[Batch],
    *,
    epochs: int = 1,
    lr: float = 1e-4,
    loss: Loss = relative,
    features: Sequence[str] = (),
    amp: torch.dtype | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> M:
    """Train `student`, in place, to give what `teacher` gives; it is returned.

    Adam, whose rate rises to `lr` and falls to zero by half a cosine. Both run in eval mode: the
    running statistics of normalisations stay, and nothing is dropped. Parameters that do not
    require a gradient stay, and so do the training flags. The teacher is not changed.

    Under `torchrun`, or in a process group, each process takes its share of `batches`, and
    gradients are averaged (`DistributedDataParallel`): the script needs no change.

    Args:
        batches: inputs without labels: tensors, tuples of arguments or dicts of keywords. They are
            gone through `epochs` times.
        loss: of two tensors, the student's and the teacher's; by default `‖s − t‖² / ‖t‖²`. With
            several outputs or features it is the mean over them.
        features: names of layers, in both, whose outputs are matched as well.
        amp: a dtype to run in where that is safe, as `torch.bfloat16`.
        checkpoint: a file that is written every 100 steps and at the end, and from which the same
            call goes on after an interruption; give the student as it was at first.
        progress: show a progress bar, on the standard error.

    Raises `ValueError` or `TypeError`, naming the argument, before anything is changed; and
    `FloatingPointError` where the loss is not finite.

    Hinton et al. 2015, arXiv 1503.02531; for features Romero et al. 2015, arXiv 1412.6550.

    >>> teacher = nn.Conv2d(3, 8, 3)
    >>> student = FactorizedConv.from_conv(teacher, rank=0.5)
    >>> distill(student, teacher, [torch.randn(4, 3, 8, 8)], progress=False) is student
    True
    """
    trained = _check(student, teacher, batches, epochs, lr, amp)
    check_names("features", features)
    check_flag("progress", progress)
    place = None if checkpoint is None else check_path("checkpoint", checkpoint)
    device = trained[0].device
    matching = Matching(student, teacher, features, loss)
    try:
        with joined(device) as processes, _inference(student, teacher):
            training = Training(student, trained, matching, lr, amp, processes)
            if place is not None and place.exists():
                training.restore(place, device)
            training.run(batches, epochs, place, progress and processes.rank == 0)
    finally:
        matching.close()
        student.zero_grad(set_to_none=True)
    return student


@dataclass
class Training:
    """A student, its optimizer, and how many steps they have made."""

    student: nn.Module
    parameters: list[nn.Parameter]
    matching: Matching
    lr: float
    amp: torch.dtype | None
    processes: Processes
    steps: int = 0
    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.device = self.parameters[0].device
        self.optimizer = torch.optim.Adam(self.parameters, self.lr)
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
        if not before:
            raise ValueError("batches has none: give some inputs")
        if self.steps > done:
            self.save(place)

    def step(self, model: nn.Module, batch: Batch, total: int | None) -> None:
        """One batch, and one step of the optimizer."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * rate(self.steps, total)
        with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
            loss: Tensor = self.matching(model, batch)
        if not bool(torch.isfinite(loss)):
            found = float(loss.detach())
            raise FloatingPointError(
                f"the loss of step {self.steps + 1} is {found}: lower lr={self.lr}, or look "
                "for NaN in the batch"
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
                "lr": self.lr,
                "student": self.student.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
            }
            write_checkpoint(place, state)
        self.processes.wait()

    def restore(self, place: Path, device: torch.device) -> None:
        """Go on from a file; `ValueError` for one of another student or another rate."""
        state = read_checkpoint(place, device)
        if state.get("lr") != self.lr:
            raise ValueError(
                f"checkpoint={place} was written with lr={state.get('lr')}, not lr={self.lr}: give "
                "that, or another file"
            )
        try:
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
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


@contextmanager
def _inference(student: nn.Module, teacher: nn.Module) -> Iterator[None]:
    """Both in eval mode, their training flags as before afterwards."""
    modes = {module: module.training for model in (student, teacher) for module in model.modules()}
    try:
        student.eval()
        teacher.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _check(
    student: Any, teacher: Any, batches: Any, epochs: Any, lr: Any, amp: Any
) -> list[nn.Parameter]:
    """Refuse bad arguments; the parameters that are to be trained."""
    for name, model in (("student", student), ("teacher", teacher)):
        check_model(name, model)
    check_batches("batches", batches)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("student has no parameter that requires a gradient: nothing to train")
    theirs = {id(parameter) for parameter in teacher.parameters()}
    if any(id(parameter) in theirs for parameter in trained):
        raise ValueError(
            "student and teacher share parameters, so that training one changes the other: give "
            "copy.deepcopy(student), or freeze what they share"
        )
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise ValueError(f"epochs={epochs!r} must be an int of at least 1")
    if epochs > 1 and isinstance(batches, Iterator):
        raise ValueError(f"batches is gone through once only, and epochs={epochs}: give a list")
    check_number("lr", lr)
    if not lr > 0:
        raise ValueError(f"lr={lr!r} must be above 0")
    if not any(amp is known for known in (None, torch.bfloat16, torch.float16)):
        raise ValueError(f"amp={amp!r} must be torch.bfloat16, torch.float16 or None")
    return trained
