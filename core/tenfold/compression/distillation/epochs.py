"""Epochs judged by a score: the best is kept, and when there is none better any more, the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .processes import Processes

Score = Callable[[nn.Module], float]


@dataclass
class Epochs:
    """The scores so far, `(epochs,)`, and the student's state at the best.

    `patience` is how many epochs without a better one there may be.
    """

    score: Score | None
    patience: int | None
    processes: Processes
    scores: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def judge(self, student: nn.Module) -> str | None:
        """Take the score of one more epoch, in eval mode; what to tell of it.

        Raises `TypeError` where it is no number.
        """
        if self.score is None:
            return None
        mode = student.training
        student.eval()
        try:
            with torch.no_grad():
                found = self.processes.first(float(self.score(student)))
        except (TypeError, ValueError) as fault:
            raise TypeError(f"score must take a model and return a number: {fault}") from fault
        student.train(mode)
        best = not self.scores or found > max(self.scores)
        self.scores.append(found)
        if best:
            self.best = {name: value.clone() for name, value in student.state_dict().items()}
        return f"epoch {len(self.scores)}: score {found:.4g}{', the best so far' if best else ''}"

    @property
    def over(self) -> bool:
        """Whether the last better score is `patience` epochs away."""
        if self.patience is None or not self.scores:
            return False
        return len(self.scores) - 1 - self.scores.index(max(self.scores)) >= self.patience

    def settle(self, student: nn.Module) -> None:
        """Give the student what it had at its best."""
        if self.best:
            student.load_state_dict(self.best)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"scores": list(self.scores), "best": self.best}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from it."""
        self.scores, self.best = list(state["scores"]), dict(state["best"])
