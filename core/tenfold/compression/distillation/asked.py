"""What a distillation is asked for, refused before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Adam, Optimizer

from ...arguments import check_batches, check_count, check_model, check_number
from ...layer import factorized_layers
from ...optim import SOAP
from .matching import Loss, kd, relative

T = TypeVar("T", bound=Callable[..., Any])
Make = Callable[[list[nn.Parameter], float], Optimizer]
LOSSES: dict[str, Loss] = {"relative": relative, "kd": kd}
OPTIMIZERS: dict[str, Make] = {"adam": Adam, "soap": SOAP}


def check_training(
    student: Any, teacher: Any, batches: Any, epochs: Any, lr: Any, amp: Any
) -> list[nn.Parameter]:
    """Refuse bad arguments; the parameters that are to be trained."""
    for name, model in (("student", student), ("teacher", teacher)):
        check_model(name, model)
    check_batches("batches", batches)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("student has no parameter that requires a gradient: nothing to train")
    if _factorized(teacher) and not _factorized(student):
        raise ValueError(
            "teacher has factorized layers and student has none: the order is distill(student, "
            "teacher, batches), the compressed network first"
        )
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


def _factorized(model: nn.Module) -> bool:
    return bool(factorized_layers(model))


def read_loss(loss: Loss | str) -> Loss:
    """The loss of a name; refuses, with a `ValueError`, what is neither a name nor a function."""
    return _chosen("loss", loss, LOSSES, "a function of two tensors")


def read_optimizer(optimizer: Make | str) -> Make:
    """What makes the optimizer of a name; refuses what is neither a name nor a function."""
    kind = "a function of the parameters and lr that gives an optimizer"
    return _chosen("optimizer", optimizer, OPTIMIZERS, kind)


def _chosen(name: str, value: T | str, known: Mapping[str, T], kind: str) -> T:
    if isinstance(value, str) and value in known:
        return known[value]
    if isinstance(value, str) or not callable(value):
        names = ", ".join(map(repr, known))
        raise ValueError(f"{name}={value!r} must be one of {names}, or {kind}")
    return value


def named(optimizer: Make | str) -> str:
    """What a checkpoint calls it."""
    return optimizer if isinstance(optimizer, str) else getattr(optimizer, "__name__", "")


def check_labels(labels: Any) -> None:
    """Refuse what is no part of a whole; `TypeError` or `ValueError`."""
    check_number("labels", labels)
    if not 0 <= labels <= 1:
        raise ValueError(f"labels={labels!r} must be at least 0 and at most 1, a part of the loss")


def check_score(score: Any, patience: Any) -> None:
    """Refuse what is no function, and patience without one; `TypeError` or `ValueError`."""
    if score is not None and not callable(score):
        raise TypeError(f"score={score!r} must be a function of a model that gives a number")
    if patience is not None:
        check_count("patience", patience)
        if score is None:
            raise ValueError(f"patience={patience} needs score=, a function of a model")
