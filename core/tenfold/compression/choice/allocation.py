"""Which candidate each layer gets: the multiple-choice knapsack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CELLS = 20000  # of the budget axis


def allocate(
    costs: Sequence[Sequence[float]], losses: Sequence[Sequence[float]], budget: float
) -> list[int] | None:
    """Choose one of each layer's candidates for the least total loss within the budget.

    By dynamic programming over the spent budget (Kellerer, Pferschy and Pisinger 2004, chapter 11),
    exact where costs are whole numbers and the budget is at most `CELLS`; else each cost is rounded
    up to a cell, so that the budget is kept, and what the rounding left is spent afterwards.
    None where even the cheapest candidates exceed the budget.

    >>> allocate([[4, 1], [4, 2]], [[0, 5], [0, 1]], budget=6)
    [0, 1]
    """
    least = sum(min(layer) for layer in costs)
    if least > budget * (1 + 1e-12):
        return None
    whole = all(float(cost).is_integer() for layer in costs for cost in layer)
    unit = 1.0 if whole and budget <= CELLS else budget / CELLS
    # Of each layer only what it spends above its cheapest counts: the rounding is relative to that.
    floors = [min(layer) for layer in costs]
    cells = int((budget - least) / unit + 1e-9)
    best = np.zeros(cells + 1)
    picks = np.zeros((len(costs), cells + 1), dtype=np.int32)
    for row, (cost, loss, floor) in enumerate(zip(costs, losses, floors, strict=True)):
        reached = np.full(cells + 1, np.inf)
        for index in _frontier(cost, loss):
            step = int(np.ceil((cost[index] - floor) / unit - 1e-9))
            if step > cells:
                continue
            total = best[: cells + 1 - step] + loss[index]
            better = total < reached[step:]
            reached[step:][better] = total[better]
            picks[row, step:][better] = index
        best = reached
    chosen = [0] * len(costs)
    at = int(np.argmin(best))
    for row in reversed(range(len(costs))):
        chosen[row] = int(picks[row, at])
        at -= int(np.ceil((costs[row][chosen[row]] - floors[row]) / unit - 1e-9))
    return _filled(costs, losses, budget, chosen)


def _frontier(cost: Sequence[float], loss: Sequence[float]) -> list[int]:
    """The candidates that no other beats in both."""
    kept: list[int] = []
    for index in sorted(range(len(cost)), key=lambda i: (cost[i], loss[i])):
        if not kept or loss[index] < loss[kept[-1]]:
            kept.append(index)
    return kept


def _filled(
    costs: Sequence[Sequence[float]],
    losses: Sequence[Sequence[float]],
    budget: float,
    chosen: list[int],
) -> list[int]:
    """Spend what the rounding left, the largest gain first."""
    left = budget - sum(cost[index] for cost, index in zip(costs, chosen, strict=True))
    while True:
        gains = [
            (losses[row][chosen[row]] - losses[row][index], row, index)
            for row, cost in enumerate(costs)
            for index in range(len(cost))
            if cost[index] - cost[chosen[row]] <= left + 1e-12 * budget
        ]
        gain, row, index = max(gains, default=(0.0, 0, 0))
        if gain <= 0:
            return chosen
        left -= costs[row][index] - costs[row][chosen[row]]
        chosen[row] = index


def uniform(costs: Sequence[Sequence[float]], budget: float) -> list[int] | None:
    """The same fraction of the first candidate's cost in every layer: the largest that fits.

    Each layer gets its costliest candidate within the fraction, or its cheapest.
    """

    def at(fraction: float) -> list[int]:
        return [
            max(
                range(len(layer)),
                key=lambda i: (
                    (layer[i] <= fraction * layer[0], layer[i])
                    if layer[i] <= fraction * layer[0]
                    else (False, -layer[i])
                ),
            )
            for layer in costs
        ]

    def spent(chosen: list[int]) -> float:
        return sum(layer[index] for layer, index in zip(costs, chosen, strict=True))

    fractions = sorted({cost / layer[0] for layer in costs for cost in layer if layer[0]})
    fitting = [f for f in [0.0, *fractions] if spent(at(f)) <= budget * (1 + 1e-12)]
    return at(fitting[-1]) if fitting else None
