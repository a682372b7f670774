"""Fast enough: no layer slower than dense in its place, and a whole network within its time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..candidates import Speed
from .plan import Choices, Plan

TIGHTENINGS = 4  # of a latency budget that the whole network missed
NOISE = 0.05  # of a measured latency
ROUNDS = 3  # of choosing again
CLEAR = 1.05  # times dense's median that a layer's least has to be, to be called slower
COUNTS = 0.003  # of the network's time that a layer has to cost
Timed = Callable[[Choices], Speed]


class Watch:
    """Times networks of which one is chosen.

    The best of several timings is the luckiest of them too: what was `chosen` by them is timed
    `anew`, and that is told of it. What was not chosen by its time need not be.
    """

    def __init__(self, timed: Timed, anew: Timed) -> None:
        self._timed, self._anew = timed, anew
        self._looked: list[Choices] = []
        self._sure: list[Choices] = []

    def __call__(self, choices: Choices) -> Speed:
        if choices not in self._looked:
            self._looked.append(choices)
        return self._timed(choices)

    def chosen(self, choices: Choices) -> Speed:
        """How fast what was chosen is."""
        first = self(choices)
        several = len(self._looked) > 1 or choices in self._sure
        return self.anew(choices) if several else first

    def anew(self, choices: Choices) -> Speed:
        """How fast it is beside luck."""
        self._sure.append(choices)
        return self._anew(choices)


@dataclass(frozen=True)
class Quick:
    """Choices as fast as the budget lets them be.

    `slow` is None where the network is not slower than the original. Else it names the layers that
    are slower than dense, as the budget is not kept without them; `budget` is then the smallest, of
    those looked at, whose network is faster than the original, if any.
    """

    choices: Choices
    slow: tuple[str, ...] | None = None
    budget: float | None = None


def quick(plan: Plan, choices: Choices, budget: float, timed: Watch) -> Quick:
    """Choose again without what was measured to be slower than dense, while the budget lets it."""
    allowed, tried = plan, [(choices, timed(choices))]
    while slow := _surely(*tried[-1], timed):
        narrower = _without(allowed, slow, tried[-1][0], budget)
        again = narrower.choose(budget)
        if len(tried) > ROUNDS or again in [one for one, _ in tried]:
            break
        allowed = narrower
        tried.append((again, timed(again)))
    best = min(tried, key=lambda one: one[1].after / one[1].before) if slow else tried[-1]
    return told(allowed, best[0], timed)


def _surely(choices: Choices, speed: Speed, timed: Watch) -> list[str]:
    """The layers that are slower than dense twice: once may be what else the machine does."""
    found = slower(choices, speed)
    return [n for n in slower(choices, timed.anew(choices)) if n in found] if found else []


def told(plan: Plan, choices: Choices, timed: Watch) -> Quick:
    """The choices as they are, with what is to be said of their speed."""
    speed = timed.chosen(choices)
    if speed.after <= CLEAR * speed.before:
        return Quick(choices)
    slow = tuple(slower(choices, speed))
    return Quick(choices, slow, _fast(plan, choices, speed, timed))


def _without(plan: Plan, slow: Sequence[str], choices: Choices, budget: float) -> Plan:
    """The plan without the candidates of slow layers, as far as the budget can be kept so."""
    for name in slow:
        narrower = plan.without(name, choices[name])
        plan = narrower if narrower.least <= budget else plan
    return plan


def fast(plan: Plan, choices: Choices, budget: float, timed: Watch) -> Choices:
    """Choices whose network is measured to be fast enough: layers together are not their sum.

    Twice, as the first to be fast enough may be so by luck. Where it is too slow, the budget is
    tightened by as much, a few times. Raises `ValueError` where that does not do.
    """
    target = budget
    tried: list[tuple[float, int, Choices]] = []
    for _ in range(TIGHTENINGS):
        speed = timed(choices)
        if speed.after <= budget * speed.before:
            speed = timed.anew(choices)
        tried.append((speed.after / speed.before, len(tried), choices))
        if speed.after <= budget * speed.before or target <= plan.least:
            break
        target = max(plan.least, target * budget * speed.before / speed.after)
        choices = plan.choose(target)
    reached, _, choices = min(tried)
    if reached > budget * (1 + NOISE):
        raise ValueError(
            f"budget={budget:g} of the latency cannot be reached: the fastest network takes "
            f"{reached:.2f} of the original's time on this machine; ask for that, or include "
            "more layers or other factorizations" + plan.refusals()
        )
    timed.chosen(choices)
    return choices


def slower(choices: Choices, speed: Speed) -> list[str]:
    """The layers that are slower than dense beyond doubt, the costliest first."""
    lost = {}
    for name, ((_, usual), (least, _)) in speed.layers.items():
        gap = least - CLEAR * usual
        if choices[name].factorization is not None and gap > 0:
            lost[name] = least - usual
    return sorted((n for n in lost if lost[n] > COUNTS * speed.after), key=lambda n: -lost[n])


def _fast(plan: Plan, choices: Choices, speed: Speed, timed: Timed) -> float | None:
    """The smallest budget without any slow layer, where its network is faster than the original."""
    for _ in range(ROUNDS):
        slow = slower(choices, speed)
        plan = _without(plan, slow, choices, 1.0)
        if not slow or plan.least >= 1:
            return None
        choices = plan.choose(plan.least)
        speed = timed(choices)
        if speed.after < speed.before:
            return plan.spent(choices) / plan.full
    return None
