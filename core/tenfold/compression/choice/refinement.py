"""Choices judged together: single layers' errors are only a first-order model of the whole."""

from __future__ import annotations

from collections.abc import Callable

from ..survey import neighbours
from .plan import Choices, Plan

Trial = Callable[[Choices], float]  # the error of the network with these choices
HALVINGS = 9  # of the interval of budgets
TOGETHER = 8  # the most parts of a network that are restored one after another
POWERS = (2.0, 1.0)
STRETCH = 3.0  # the most by which a layer's predicted error is corrected


def refined(plan: Plan, trial: Trial, budget: float) -> Choices:
    """The best of a few choices within a budget, each measured.

    The first add up the layers' squared errors (independent ones) or the errors themselves (all in
    one direction). Then layers of the better are restored, some neighbours at a time; what that
    gains, against what was predicted, corrects the prediction for one more, and for the plan.
    """
    plan.scales = [1.0] * len(plan.scales)
    tried = []
    for plan.power in POWERS:
        choices = plan.choose(budget)
        tried.append((trial(choices), plan.power, choices))
    error, power, best = min(tried, key=lambda one: one[0])
    plan.power = power
    changed = [name for name, one in best.items() if one.factorization is not None]
    for names in neighbours(changed, TOGETHER):
        predicted = sum(plan.error_of(n, best[n]) ** power for n in names) ** (1 / power)
        if predicted <= 0:
            continue
        without = trial({**best, **{name: plan.dense(name) for name in names}})
        gained = max(0.0, error**power - without**power) ** (1 / power)
        plan.rescale(names, min(STRETCH, max(1 / STRETCH, gained / predicted)))
    again = plan.choose(budget)
    return again if again != best and trial(again) < error else best


def smallest(plan: Plan, trial: Trial, limit: float) -> Choices:
    """The choices of the least budget whose measured error is at most `limit`, by bisection.

    Raises `ValueError` where even the original exceeds it.
    """
    best = plan.choose(1.0)
    if trial(best) > limit:
        raise ValueError(
            f"the limit is {limit:g} and the original itself does not keep it: ask for less"
        )
    low, high = plan.least, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        choices = plan.choose(middle)
        if trial(choices) <= limit:
            high, best = middle, choices
        else:
            low = middle
    return best
