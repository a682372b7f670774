"""Fine-tune a compressed network against its original."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ...arguments import (
    check_flag,
    check_names,
    check_path,
)
from ..running import Batch, Part, check_part, parted, shown
from .asked import check_score, check_training, read_loss
from .checkpoint import read_checkpoint, write_checkpoint
from .epochs import Epochs, Score
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
    inputs: Part = None,
    loss: Loss | str = relative,
    score: Score | None = None,
    patience: int | None = None,
    features: Sequence[str] = (),
    train: bool = False,
    amp: torch.dtype | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> M:
    """Train `student`, in place, to give what `teacher` gives; it is returned.

    Adam, whose rate rises to `lr` and falls to zero by half a cosine. Both run in eval mode: the
    running statistics of normalisations stay, and nothing is dropped; with `train` the student runs
    in training mode. Parameters that do not require a gradient stay, and so do the training flags.
    The teacher is not changed.

    Under `torchrun`, or in a process group, each process takes its share of `batches`, and
    gradients are averaged (`DistributedDataParallel`): the script needs no change.

    Args:
        batches: a list or a `DataLoader` as it is, gone through `epochs` times. What `forward`
            takes is taken whole; of a tuple or list that it does not take the last part is labels,
            and of a dict what is under "label", "labels", "target", "targets" or "y".
        inputs: which part of a batch the model takes, where that rule does not do: an index, a key
            or a function of the batch.
        loss: of two tensors, the student's and the teacher's; by default `‖s − t‖² / ‖t‖²`. With
            several outputs or features it is the mean over them. `"kd"` is the divergence of
            softened classes, `(batch, classes, …)`, with a tenth of the cross-entropy beside it
            where batches have labels; other losses leave labels out.
        score: a function of the student, higher being better, taken after each epoch and shown with
            the progress; the student ends as it was after the best. Give it other samples than a
            test set's, which would be none any more.
        patience: after so many epochs without a better score it ends.
        features: names of layers, in both, whose outputs are matched as well.
        train: run the student in training mode: normalisations take each batch's statistics and
            keep running ones, and dropouts drop. It is for many batches of some size.
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
    trained = check_training(student, teacher, batches, epochs, lr, amp)
    check_part("inputs", inputs)
    check_score(score, patience)
    measure = read_loss(loss)
    check_names("features", features)
    check_flag("train", train)
    check_flag("progress", progress)
    place = None if checkpoint is None else check_path("checkpoint", checkpoint)
    device = trained[0].device
    matching = Matching(student, teacher, features, measure)
    try:
        with joined(device) as processes, _modes(student, teacher, train):
            judged = Epochs(score, patience, processes)
            training = Training(student, trained, matching, lr, amp, processes, judged, inputs)
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
    judged: Epochs
    inputs: Part = None
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
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * rate(self.steps, total)
        with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
            given, labels = parted(self.student, batch, "a batch", self.inputs)
            loss: Tensor = self.matching(model, given, labels)
        if not bool(torch.isfinite(loss)):
            found = float(loss.detach())
            raise FloatingPointError(
                f"the loss of step {self.steps + 1} is {found}: lower lr={self.lr}, or look "
                "for NaN in the batch"
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
                "lr": self.lr,
                "student": self.student.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "judged": self.judged.state(),
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


@contextmanager
def _modes(student: nn.Module, teacher: nn.Module, train: bool) -> Iterator[None]:
    """Both in eval mode, or the student training; their flags as before afterwards."""
    modes = {module: module.training for model in (student, teacher) for module in model.modules()}
    try:
        student.train(train)
        teacher.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training
