"""The network of some choices: assembled, corrected, and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from ..candidates import Table
from ..choice import Choices, Trial, applied
from ..measurement import Evaluate, Judges, score
from ..moments import Importance
from ..reporting import Stage
from ..request import CompressionConfig
from ..running import Progress, copied
from ..survey import Subject
from ..tying import Tie, assembled, tied
from .answers import Answers
from .normalisation import recalibrate
from .refit import correct


@dataclass(frozen=True)
class Made:
    """A network and what it is worth: its error, and what the user's `evaluate` gives.

    `ties` are the layers that share their factors, instead of what `choices` has for them.
    """

    choices: Choices
    model: nn.Module
    error: float
    score: float | None
    ties: Sequence[Tie] = ()

    @property
    def loss(self) -> float:
        """How far it is from the original, or below its score."""
        return self.error if self.score is None else -self.score

    @property
    def became(self) -> Choices:
        """What every layer became, those that share their factors too."""
        found = dict(self.choices)
        for tie in self.ties:
            found |= tie.candidates()
        return found


@dataclass(frozen=True)
class Finisher:
    """Makes networks of choices."""

    subject: Subject
    table: Table
    judges: Judges
    importance: Callable[[], Importance]
    answers: Answers  # what of the original's the run for the importance saw
    config: CompressionConfig
    progress: Progress
    evaluate: Evaluate | None

    def assembled(self, choices: Choices, ties: Sequence[Tie] = ()) -> nn.Module:
        """A copy of the original with the chosen layers, as they were decomposed."""
        subject = self.subject
        return assembled(copied(subject.model), subject.layers, self.table, choices, ties)

    def tied(self, choices: Choices) -> tuple[list[Tie], list[Stage]]:
        """The stages that are nearer to the original with their layers tied, and what was tried."""
        judge = self.judges.final
        return tied(self.subject, self.table, choices, self.importance(), self.config, judge)

    def trial(self, judge: Callable[[nn.Module], float]) -> Trial:
        """What judges choices, uncorrected."""

        def judged(choices: Choices) -> float:
            subject = self.subject
            with applied(subject.model, subject.layers, self.table, choices) as changed:
                return judge(changed)

        return judged

    def finished(self, choices: Choices, correcting: bool, ties: Sequence[Tie] = ()) -> Made:
        """The network of some choices, corrected or not."""
        model = self.assembled(choices, ties)
        if correcting:
            self._correct(model)
        error = self.judges.final.change(model)
        found = None if self.evaluate is None else score(model, self.evaluate)
        return Made(choices, model, error, found, ties)

    def _correct(self, model: nn.Module) -> None:
        """Fit the layers to the original's responses, and the normalisations."""
        subject, config = self.subject, self.config
        steps = correct(
            subject.model,
            model,
            subject.layers,
            [layer.name for layer in subject.every],
            subject.pieces,
            self.judges.final,
            config.seed,
            self.importance(),
            config.memory,
            self.answers.found,
        )
        for _ in self.progress.over(steps, "correction", len(subject.layers), str):
            pass
        recalibrate(model, subject.fitted, self.judges.final)
