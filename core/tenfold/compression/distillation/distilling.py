"""Fine-tune a compressed network against its original."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ...arguments import (
    check_flag,
    check_names,
    check_path,
)
from ..running import Batch, Part, check_part
from .asked import Make, check_labels, check_score, check_training, named, read_loss, read_optimizer
from .epochs import Epochs, Score
from .matching import Loss, Matching, relative
from .processes import joined
from .training import Training

M = TypeVar("M", bound=nn.Module)


def distill(
    student: M,
    teacher: nn.Module,
    batches: Iterable[Batch],
    *,
    epochs: int = 1,
    lr: float = 1e-4,
    inputs: Part = None,
    loss: Loss | str = relative,
    labels: float = 0.1,
    score: Score | None = None,
    patience: int | None = None,
    features: Sequence[str] = (),
    optimizer: Make | str = "adam",
    train: bool = False,
    amp: torch.dtype | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> M:
    """Train `student`, in place, to give what `teacher` gives; it is returned.

    The rate rises to `lr` and falls to zero by half a cosine. Both run in eval mode: the running
    statistics of normalisations stay, and nothing is dropped; with `train` the student runs in
    training mode. Parameters that do not require a gradient stay, and so do the training flags. The
    teacher is not changed.

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
            softened classes, `(batch, classes, …)`; other losses leave labels out.
        labels: what the cross-entropy with the labels counts of the whole under `"kd"`, where
            batches have labels. The nearer the student is to the teacher, the more they bring.
        score: a function of the student, higher being better, taken after each epoch and shown with
            the progress; the student ends as it was after the best. Give it other samples than a
            test set's, which would be none any more.
        patience: after so many epochs without a better score it ends.
        features: names of layers, in both, whose outputs are matched as well.
        optimizer: `"adam"`, `"soap"` (`tenfold.SOAP`), or a function of the trained parameters and
            `lr` that gives one; the rates of its groups rise and fall together.
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
    check_labels(labels)
    measure, make = read_loss(loss), read_optimizer(optimizer)
    check_names("features", features)
    check_flag("train", train)
    check_flag("progress", progress)
    place = None if checkpoint is None else check_path("checkpoint", checkpoint)
    device = trained[0].device
    course = {"lr": lr, "labels": labels, "train": train, "optimizer": named(optimizer)}
    matching = Matching(student, teacher, features, measure, labels)
    try:
        with joined(device) as processes, _modes(student, teacher, train):
            judged = Epochs(score, patience, processes)
            training = Training(
                student, trained, matching, make, course, amp, processes, judged, inputs
            )
            if place is not None and place.exists():
                training.restore(place, device)
            training.run(batches, epochs, place, progress and processes.rank == 0)
    finally:
        matching.close()
        student.zero_grad(set_to_none=True)
    return student


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
