"""Draw the rooms of the code in their order, who imports whom, and a kernel's way through them.

    python docs/scripts/rooms.py

Writes `docs/images/rooms.svg` and `docs/images/compression.svg` from the imports themselves, and
the way from the calls of `layer/assembly.py`. Each picture carries what it shows as text, which a
test compares with what would be drawn now.
"""

from __future__ import annotations

import ast
import json
import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).parent.parent.parent
CORE, IMAGES = ROOT / "core" / "tenfold", ROOT / "docs" / "images"
INK, SOFT, FILL, WAY = "#263238", "#546e7a", "#e3f2fd", "#c62828"
PICTURES = {"rooms": CORE, "compression": CORE / "compression"}
BOX, HEIGHT, WIDTH = 8.4, 0.95, 10.4  # of a room, and of a picture, in its units


def doors(folder: Path) -> dict[str, str]:
    """The rooms of a folder, and the first sentence of each one's door."""
    found = {}
    for path in sorted(folder.iterdir()):
        door = path / "__init__.py"
        if door.exists():
            first = (ast.get_docstring(ast.parse(door.read_text())) or "").split("\n\n")[0]
            found[path.name] = " ".join(first.split())
    return found


def imports(folder: Path, rooms: dict[str, str]) -> dict[str, list[str]]:
    """The other rooms of `folder` that each room's files import.

    A room that imports the package itself, as the kit for strangers does, imports what that does.
    """
    whole = {
        room for room in rooms if f"from .{room} import" in (folder / "__init__.py").read_text()
    }
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for room in rooms:
        for path in (folder / room).rglob("*.py"):
            deep = len(path.relative_to(folder).parts)  # dots that lead to the folder
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.ImportFrom):
                    continue
                if node.level == deep and node.module:
                    found[room].add(node.module.split(".")[0])
                elif (node.level, node.module) in ((deep, None), (0, "tenfold")):
                    found[room] |= whole
    return {room: sorted(others & set(rooms) - {room}) for room, others in found.items()}


def ordered(edges: dict[str, list[str]]) -> list[str]:
    """The rooms, each after those that it imports."""
    done: list[str] = []
    while len(done) < len(edges):
        free = [room for room in edges if room not in done and set(edges[room]) <= set(done)]
        done += free[:1]
        assert free, "the rooms import each other"
    return done


def direct(others: list[str], edges: dict[str, list[str]]) -> list[str]:
    """Those of some imports that none of the rest leads to."""
    reached: set[str] = set()
    left = [further for other in others for further in edges[other]]
    while left:
        room = left.pop()
        if room not in reached:
            reached.add(room)
            left += edges[room]
    return [other for other in others if other not in reached]


def way() -> list[list[str]]:
    """What `from_conv` calls, in order, and the room that each call goes to."""
    tree = ast.parse((CORE / "layer" / "assembly.py").read_text())
    rooms = {
        alias.name: node.module if node.level == 2 else "layer"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    (function,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "converted"
    )
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    steps = []
    for call in calls:
        words = ast.unparse(call)
        room = rooms.get(words.split(".")[0])
        if room not in (None, "arguments") and not words.startswith("check_"):
            steps.append([str(room), words])
    return steps


def describe(name: str) -> dict[str, Any]:
    """What a picture shows."""
    rooms = doors(PICTURES[name])
    edges = imports(PICTURES[name], rooms)
    return {
        "rooms": {room: rooms[room] for room in ordered(edges)},
        "imports": edges,
        "way": way() if name == "rooms" else [],
    }


def draw(name: str) -> None:
    """Draw one picture and save it."""
    shown = describe(name)
    rooms = list(shown["rooms"])
    style = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(8.4, 8.4 * len(rooms) * HEIGHT / WIDTH))
        axes.set_position((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(-len(rooms) * HEIGHT, 0))
        axes.axis("off")
        for row, (room, sentence) in enumerate(shown["rooms"].items()):
            box(axes, row, room, sentence)
        for room, others in shown["imports"].items():
            for other in direct(others, shown["imports"]):
                arrow(axes, rooms.index(room), rooms.index(other))
        steps: dict[str, list[str]] = {}
        for number, (room, call) in enumerate(shown["way"], 1):
            steps.setdefault(room, []).append(f"{number} {call}")
        for room, calls in steps.items():
            mark(axes, rooms.index(room), calls)
        metadata = {"Date": None, "Creator": None, "Title": name, "Description": json.dumps(shown)}
        figure.savefig(IMAGES / f"{name}.svg", metadata=metadata, transparent=False)
        plt.close(figure)


def box(axes: Axes, row: int, room: str, sentence: str) -> None:
    """A room: its name, and what its door says."""
    y = -row * HEIGHT
    axes.add_patch(plt.Rectangle((0.05, y - 0.89), BOX - 0.05, 0.8, facecolor=FILL, edgecolor=INK))
    axes.text(0.2, y - 0.29, room, va="center", fontsize=10, weight="bold", color=INK)
    lines = "\n".join(textwrap.wrap(sentence.replace("`", ""), 120))
    axes.text(0.2, y - 0.65, lines, va="center", fontsize=8.5, color=SOFT)


def arrow(axes: Axes, row: int, other: int) -> None:
    """An import: from a room to one that stands above it."""
    start, end = -(row * HEIGHT + 0.29), -(other * HEIGHT + 0.65)
    bend = BOX + 0.15 + 0.17 * (row - other)
    xs, ys = zip(*[curve(t / 20, start, end, bend) for t in range(21)], strict=True)
    axes.plot(xs, ys, color=SOFT, lw=0.7, alpha=0.7)
    axes.plot(BOX + 0.03, end, marker="<", color=SOFT, markersize=3)


def curve(t: float, start: float, end: float, bend: float) -> tuple[float, float]:
    """A point of the quadratic curve from one box's side to another's."""
    reach = 2 * bend - BOX
    x = (1 - t) ** 2 * BOX + 2 * t * (1 - t) * reach + t**2 * BOX
    return x, (1 - t) * start + t * end


def mark(axes: Axes, row: int, calls: list[str]) -> None:
    """The steps of a kernel's way that a room does."""
    text = " · ".join(calls)
    axes.text(
        BOX - 0.15, -row * HEIGHT - 0.29, text, va="center", ha="right", fontsize=8.5, color=WAY
    )


if __name__ == "__main__":
    for picture in PICTURES:
        draw(picture)
