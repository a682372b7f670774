"""The network's error for every candidate: read off between those that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log
from statistics import median

from ..candidates import LayerTable, Table

LEAST = 1e-6  # of an error, in the layer's own: among those that measure nothing it still counts


def calibrated(table: Table) -> float:
    """What gradients are to be multiplied by: the median of measured errors over theirs."""
    ratios = [
        one.error / (layer.sensitivity * one.weighted)
        for layer in table.layers.values()
        for one in layer.candidates
        if one.error and one.error < float("inf") and layer.sensitivity * one.weighted > 0
    ]
    return median(ratios) if ratios else 1.0


def interpolated(table: LayerTable, gain: float = 1.0) -> list[float]:
    """The error of every candidate, by its weighted error from those that were measured.

    The two are nearly proportional, so the logarithm of one is interpolated in that of the other,
    and continued with slope 1. Errors never fall as the weighted error grows. Where none was
    measured, it is what gradients tell, times `gain`.
    """
    points = sorted((one.weighted, one.error) for one in table.candidates if one.error is not None)
    points = [(w, e) for w, e in points if w > 0 and e < float("inf")]
    if not points:
        slope = gain * table.sensitivity or 1.0
        return [slope * one.weighted for one in table.candidates]
    grown, most = [], 0.0
    for weighted, error in points:
        most = max(most, error, LEAST * weighted)
        grown.append((log(weighted), log(most)))
    return [_read(grown, one.weighted) for one in table.candidates]


def _read(points: Sequence[tuple[float, float]], weighted: float) -> float:
    if weighted <= 0:
        return 0.0
    at = log(weighted)
    if at <= points[0][0]:
        return exp(points[0][1] + at - points[0][0])
    for (x0, y0), (x1, y1) in pairwise(points):
        if at <= x1:
            return exp(y0 + (y1 - y0) * (at - x0) / ((x1 - x0) or 1.0))
    return exp(points[-1][1] + at - points[-1][0])
