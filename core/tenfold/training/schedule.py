"""Ranks that fall to a budget while a network is trained."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..arguments import check_count, check_model, check_number
from ..layer import FactorizedConv
from .moments import check_optimizer
from .ranks import set_rank


class RankSchedule:
    """Lowers the rank of every factorized layer of `model` from one budget to another.

    `step()` is called once an epoch, as a scheduler of learning rates: after `t` of `steps` calls
    each layer has the fraction `end + (start − end)(1 − t/steps)³` of its dense parameters, most of
    the fall coming early (Zhu and Gupta 2018, arXiv 1710.01878). The optimizer's state follows, by
    `set_rank`. Raises `ValueError` or `TypeError` for a bad argument, and where the model has no
    factorized layer.

    >>> model = nn.Sequential(FactorizedConv(16, 16, (3, 3), rank=0.9, factorization="tucker"))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> schedule = RankSchedule(model, optimizer, start=0.9, end=0.2, steps=3)
    >>> for epoch in range(3):
    ...     schedule.step()
    >>> schedule.budget, model[0].weight.numel() <= 0.2 * 16 * 16 * 9
    (0.2, True)
    >>> RankSchedule(model, optimizer, 0.9, 0.2, 3).load_state_dict(schedule.state_dict())
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer | None, start: float, end: float, steps: int
    ) -> None:
        for name, value in (("start", start), ("end", end)):
            check_number(name, value)
            if not 0 < value <= 1:
                raise ValueError(f"{name}={value} must be a fraction, above 0 and at most 1")
        check_count("steps", steps)
        if not layers_of(check_model("model", model)):
            raise ValueError("model has no factorized layer: make one of it by factorize(model)")
        check_optimizer(optimizer, [])
        self.model, self.optimizer = model, optimizer
        self.start, self.end, self.steps = start, end, steps
        self.taken = 0

    @property
    def budget(self) -> float:
        """What each layer may have now, as a fraction of its dense parameters."""
        left = (1 - min(self.taken / self.steps, 1)) ** 3
        return self.end + (self.start - self.end) * left

    def step(self) -> None:
        """Go on to the next budget; raises as `set_rank` does."""
        self.taken += 1
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """How many steps were taken."""
        return {"taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the layers the ranks of that step; raises as `set_rank` does.

        To be called before the model's and the optimizer's own states are loaded: theirs have the
        shapes of these ranks.
        """
        self.taken = state["taken"]
        if self.taken:
            self._apply()

    def _apply(self) -> None:
        for layer in layers_of(self.model):
            set_rank(layer, self.budget, self.optimizer)


def layers_of(model: nn.Module) -> list[FactorizedConv]:
    """The factorized layers of a model, each once."""
    return [module for module in model.modules() if isinstance(module, FactorizedConv)]
