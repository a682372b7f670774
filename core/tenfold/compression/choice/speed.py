"""Fast enough: no layer slower than dense in its place, and a whole network within its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..candidates import Speed
from .plan import Choices, Plan

TIGHTENINGS = 4  # of a latency budget that the whole network missed
NOISE = 0.05  # of a measured latency
ROUNDS = 3  # of choosing again
CLEAR = 1.05  # times dense's median that a layer's least has to be, to be called slower
COUNTS = 0.003  # of the network's time that a layer has to cost
Timed = Callable[[Choices], Speed]


@dataclass(frozen=True)
class Quick:
    """Choices as fast as the budget lets them be.

    `slow` are the layers that are slower than dense all the same, as the budget is not kept without
    them; `budget` is then the smallest, of those looked at, whose network is faster than the
    original, if any.
    """

    choices: Choices
    slow: tuple[str, ...] = ()
    budget: float | None = None


def quick(plan: Plan, choices: Choices, budget: float, timed: Timed) -> Quick:
    """Choose again without what was measured to be slower than dense, while the budget lets it."""
    allowed, tried = plan, [(choices, timed(choices))]
    for _ in range(ROUNDS):
        choices, speed = tried[-1]
        slow = slower(choices, speed)
        if not slow:
            return Quick(choices)
        narrower = allowed
        for name in slow:
            without = narrower.without(name, choices[name])
            narrower = without if without.least <= budget else narrower
        if narrower is allowed:
            break
        allowed = narrower
        again = allowed.choose(budget)
        if again in [one for one, _ in tried]:
            break
        tried.append((again, timed(again)))
    choices, speed = min(tried, key=lambda one: one[1].after / one[1].before)
    slow = slower(choices, speed)
    if not slow or speed.after < speed.before:
        return Quick(choices)
    return Quick(choices, tuple(slow), _fast(allowed, choices, speed, timed))


def fast(plan: Plan, choices: Choices, budget: float, timed: Timed) -> Choices:
    """Choices whose network is measured to be fast enough: layers together are not their sum.

    Where it is too slow, the budget is tightened by as much, a few times. Raises `ValueError`
    where that does not do.
    """
    target = budget
    tried: list[tuple[float, int, Choices]] = []
    for _ in range(TIGHTENINGS):
        speed = timed(choices)
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
            "more layers or other factorizations"
        )
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
        for name in slower(choices, speed):
            plan = plan.without(name, choices[name])
        if plan.least >= 1:
            return None
        choices = plan.choose(plan.least)
        speed = timed(choices)
        if speed.after < speed.before:
            return plan.spent(choices) / plan.full
    return None
