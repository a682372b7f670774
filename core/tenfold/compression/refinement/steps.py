"""Steps of refining: how large each is of so many."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from ...optim import SOAP

WARM_UP = 0.15  # of all steps


class Steps:
    """So many steps of SOAP, the highest `rate` of each parameter's own size.

    They rise in a line, then fall to zero by half a cosine.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], total: int, rate: float) -> None:
        self.parameters, self.total, self.rate = parameters, total, rate
        self.optimizer = SOAP(parameters, lr=0.0, relative=True)
        self.steps, self.gain = 0, 0.0  # how many, and how large the last one was

    def step(self) -> None:
        """One step, and the gradients are gone."""
        self.steps += 1
        part = self.steps / self.total
        self.gain = self.rate * min(1.0, part / WARM_UP) * (1 + math.cos(math.pi * part)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.gain
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
