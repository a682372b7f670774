"""What layers, choices and results are judged by: as often as that may run the network."""

from __future__ import annotations

from functools import cached_property

from ..request import CompressionConfig
from ..running import size
from ..survey import Subject, thinned
from .replay import Replay
from .task import LEVELS, Evaluate, Judge

PASSES = 2  # over the whole calibration: what running the network with one layer changed may take
SHARE = 6  # of the calibration, its part, that whole choices are judged on
SCORES = 60  # of a user's `evaluate`, likewise
HALF = 0.5  # of a network comes after a layer, on average: what is before it need not be run


class Judges:
    """Each is made when it is needed first."""

    def __init__(
        self, subject: Subject, config: CompressionConfig, evaluate: Evaluate | None
    ) -> None:
        self.subject, self.config, self.evaluate = subject, config, evaluate

    def check_score(self) -> None:
        """Refuse, with a `ValueError`, a score above the original's own."""
        least = self.config.min_score
        if least is not None and self.final.best < least:
            raise ValueError(
                f"min_score={least:g} is above the original's own, which evaluate gives as "
                f"{self.final.best:g}: ask for less than that"
            )

    @cached_property
    def final(self) -> Judge:
        """Of the result: the change on held-out inputs."""
        return Judge.of(self.subject.model, self.subject.held, self.evaluate)

    @cached_property
    def whole(self) -> Judge:
        """Of choices for all layers; on the inputs of single ones, where these are enough."""
        items = -(-self.subject.items // SHARE)
        if self._singly >= items:
            self.single.replay = None  # single layers are measured by now
            return self.single
        batches = thinned(self.subject.probes, items, self.subject.apart)
        return Judge.of(self.subject.model, batches, self.evaluate)

    @cached_property
    def single(self) -> Judge:
        """Of one layer changed alone: on the fewer inputs, the deeper the network is."""
        subject = self.subject
        batches = thinned(subject.probes, max(1, self._singly), subject.apart)
        replay = None
        if self.evaluate is None:
            names = [layer.name for layer in subject.every]
            replay = Replay(names, batches, self.config.memory)
        return Judge.of(subject.model, batches, self.evaluate, replay)

    @property
    def _singly(self) -> int:
        """Items that single layers are judged on."""
        return self._allowed // (len(self.subject.layers) * len(LEVELS))

    @property
    def levels(self) -> tuple[float, ...]:
        """The fractions of the dense cost at which each layer is measured: fewer of a deep one."""
        runs = self._allowed // max(1, sum(map(size, self.single.batches)))
        each = (runs if self.evaluate is None else SCORES) // len(self.subject.layers)
        if each >= len(LEVELS):
            return LEVELS
        return {0: (), 1: LEVELS[1:2]}.get(each, (LEVELS[0], LEVELS[-1]))

    @property
    def _allowed(self) -> int:
        """Items that may be run through the network, or what comes of it after one layer."""
        return int(PASSES / HALF) * self.subject.items
