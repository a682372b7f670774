"""Draw each format: its network, and the convolutions that each implementation makes of it.

    python docs/scripts/drawings.py

Writes `docs/images/<format>.svg` from the networks and plans themselves. Each picture carries what
it shows as text (`<dc:description>`), which a test compares with what would be drawn now.
"""

from __future__ import annotations

import json
from math import cos, pi, sin
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tenfold import FactorizedConv, FactorizedKernel
from tenfold.network import KernelNetwork

IMAGES = Path(__file__).parent.parent / "images"
SHAPE, RANK = (64, 64, 3, 3), 0.25
FORMATS = (
    *("cp", "tucker", "tt", "spatial_svd", "channel_svd"),
    *("depthwise_separable", "block_term"),
)
WAYS = ("reconstructed", "factorized", "mobilenet")
INK, SOFT, FILL, OPEN = "#263238", "#546e7a", "#e3f2fd", "#c62828"
WIDTH, LABEL = 8.4, 0.4  # of a picture, in inches; above and below a network, in its units
Point = tuple[float, float]


def describe(name: str) -> dict[str, Any]:
    """What the picture of a format shows: its factors, sizes and stages."""
    kernel = FactorizedKernel.new(SHAPE, rank=RANK, factorization=name)
    return {
        "format": name,
        "factors": [list(factor) for factor in kernel.network.factors],
        "sizes": dict(sorted(kernel.network.sizes.items())),
        "ways": {way: stages(kernel, way) for way in WAYS},
    }


def stages(kernel: FactorizedKernel, way: str) -> list[dict[str, Any]]:
    """The convolutions that an implementation makes of a kernel; none where it refuses."""
    try:
        layer = FactorizedConv.from_factorization(kernel, implementation=way, padding=1)
    except ValueError:
        return []
    return [
        {
            "kernel": list(stage.geometry.kernel_size),
            "in": stage.in_channels,
            "out": stage.out_channels,
            "groups": stage.groups * stage.passed,
            "factors": list(stage.factors),
        }
        for stage in layer.plan.stages
    ]


def draw(name: str) -> None:
    """Draw one format and save it."""
    shown = describe(name)
    network = FactorizedKernel.new(SHAPE, rank=RANK, factorization=name).network
    style = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    with plt.rc_context(style):
        figure, (top, bottom) = plt.subplots(2, 1)
        draw_network(top, network)
        draw_ways(bottom, shown["ways"])
        heights = [inches(axes) for axes in (top, bottom)]
        figure.set_size_inches(WIDTH, sum(heights))
        top.set_position((0, heights[1] / sum(heights), 1, heights[0] / sum(heights)))
        bottom.set_position((0, 0, 1, heights[1] / sum(heights)))
        for axes in (top, bottom):
            axes.axis("off")
        text = json.dumps(shown, sort_keys=True)
        metadata = {"Date": None, "Creator": None, "Title": name, "Description": text}
        figure.savefig(IMAGES / f"{name}.svg", metadata=metadata, transparent=False)
        plt.close(figure)


def inches(axes: Axes) -> float:
    """The height of axes that are as wide as the picture, at one scale."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    return WIDTH * (high - low) / (right - left)


def draw_network(axes: Axes, network: KernelNetwork) -> None:
    """Factors as discs, bonds as lines between them, open modes as lines that end."""
    places = arranged(network)
    inward: dict[tuple[int, int], int] = {}
    for bond in network.bonds:
        owners = [i for i, factor in enumerate(network.factors) if bond in factor]
        label = f"{bond} = {network.sizes[bond]}"
        if len(owners) == 2:
            pair = (owners[0], owners[1])
            inward[pair] = inward.get(pair, -1) + 1
            line(axes, places[pair[0]], places[pair[1]], label, 0.5 * inward[pair])
        else:
            axes.plot(0, 0, "o", color=INK, markersize=5, zorder=3)
            for owner in owners:
                line(axes, places[owner], (0, 0), "", 0)
            axes.text(-0.1, -0.1, label, ha="right", va="top", color=INK, fontsize=9)
    for place, factor in zip(places, network.factors, strict=True):
        flat = all(y == 0 for _, y in places) and abs(place[0]) < max(x for x, _ in places)
        away = (0.0, 1.0) if flat else place
        opens = [mode for mode in factor if mode in network.open_modes]
        for index, mode in enumerate(opens):
            label = f"{mode} = {network.sizes[mode]}"
            dangle(axes, place, away, label, index - (len(opens) - 1) / 2)
    for index, (x, y) in enumerate(places):
        axes.add_patch(plt.Circle((x, y), 0.3, facecolor=FILL, edgecolor=INK, zorder=4))
        axes.text(x, y, str(index), ha="center", va="center", fontsize=10, color=INK, zorder=5)
    low, high = axes.dataLim.intervaly
    axes.set(xlim=(-5.6, 5.6), ylim=(low - LABEL, high + LABEL))


def arranged(network: KernelNetwork) -> list[Point]:
    """A place for each factor: in a row where the bonds make a chain, else on an ellipse."""
    count = len(network.factors)
    owners = [
        [i for i, factor in enumerate(network.factors) if bond in factor] for bond in network.bonds
    ]
    near: dict[int, list[int]] = {i: [] for i in range(count)}
    for pair in owners:
        if len(pair) == 2:
            near[pair[0]].append(pair[1])
            near[pair[1]].append(pair[0])
    ends = [i for i, others in near.items() if len(others) == 1]
    if len(ends) != 2 or any(len(pair) != 2 for pair in owners):
        turns = [pi - 2 * pi * i / count for i in range(count)]
        return [(1.9 * cos(turn), sin(turn)) for turn in turns]
    row = [ends[0] if "in" in network.factors[ends[0]] else ends[1]]
    while len(row) < count:
        row += [i for i in near[row[-1]] if i not in row]
    step = 7.2 / max(count, 3)
    return [(step * (row.index(i) - (count - 1) / 2), 0.0) for i in range(count)]


def line(axes: Axes, one: Point, other: Point, label: str, bend: float) -> None:
    """A bond from one disc to another, bent where there is one already."""
    middle = ((one[0] + other[0]) / 2, (one[1] + other[1]) / 2 + bend)
    axes.plot(*zip(one, middle, other, strict=True), color=INK, lw=1.4, zorder=2)
    level = abs(one[1] - other[1]) < 0.1
    if label and level:
        axes.text(middle[0], middle[1] + 0.08, label, ha="center", va="bottom", fontsize=9)
    elif label and abs(one[0] - other[0]) < 0.1:
        axes.text(middle[0] + 0.1, middle[1], label, va="center", fontsize=9)
    elif label:
        axes.text(middle[0] - 0.1, middle[1] + 0.1, label, ha="right", va="bottom", fontsize=9)


def dangle(axes: Axes, place: Point, away: Point, label: str, turn: float) -> None:
    """An open mode: a line from a disc, in the direction `away` but for a turn."""
    x, y = place
    length = (away[0] ** 2 + away[1] ** 2) ** 0.5 or 1.0
    angle = 0.5 * turn if abs(away[0]) > abs(away[1]) else 1.4 * turn
    dx, dy = away[0] / length, away[1] / length
    dx, dy = dx * cos(angle) - dy * sin(angle), dx * sin(angle) + dy * cos(angle)
    end = (x + 0.95 * dx, y + 0.75 * dy)
    axes.plot((x, end[0]), (y, end[1]), color=OPEN, lw=1.4, zorder=2)
    side = "left" if dx > 0.3 else "right" if dx < -0.3 else "center"
    up = "bottom" if dy > 0.3 else "top" if dy < -0.3 else "center"
    axes.text(end[0] + 0.06 * dx, end[1] + 0.06 * dy, label, ha=side, va=up, fontsize=9, color=OPEN)


def draw_ways(axes: Axes, ways: dict[str, list[dict[str, Any]]]) -> None:
    """A row of boxes for each implementation, one box a convolution."""
    axes.set(xlim=(0, 10.4), ylim=(0.0, 3.0))
    for row, (way, chain) in enumerate(ways.items()):
        y = 2.55 - row
        axes.text(0.05, y, way, va="center", fontsize=10, color=INK, family="monospace")
        if not chain:
            axes.text(1.95, y, "refused: its middle is not depthwise", va="center", color=SOFT)
        x = 1.95
        for stage in chain:
            axes.text(x, y, f"{stage['in']}", va="center", ha="center", fontsize=9, color=SOFT)
            box(axes, x + 0.25, y, stage)
            x += 2.05
        if chain:
            axes.text(x, y, f"{chain[-1]['out']}", va="center", ha="center", fontsize=9, color=SOFT)


def box(axes: Axes, x: float, y: float, stage: dict[str, Any]) -> None:
    """One convolution: its kernel, its groups and the factors that it applies."""
    rectangle = plt.Rectangle((x, y - 0.36), 1.55, 0.72, facecolor=FILL, edgecolor=INK)
    axes.add_patch(rectangle)
    kernel = "×".join(map(str, stage["kernel"]))
    groups = stage["groups"]
    kind = "" if groups == 1 else " depthwise" if groups == stage["in"] else f" in {groups}"
    factors = ", ".join(map(str, stage["factors"]))
    axes.text(x + 0.775, y + 0.13, kernel + kind, ha="center", va="center", fontsize=9, color=INK)
    named = f"factor {factors}" if len(stage["factors"]) == 1 else f"factors {factors}"
    axes.text(x + 0.775, y - 0.16, named, ha="center", va="center", fontsize=8, color=SOFT)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for format_name in FORMATS:
        draw(format_name)
