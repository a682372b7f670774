"""The rooms stand in one order: a file imports from rooms before its own, by their doors."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CORE = Path(__file__).parent.parent.parent / "core"
ROOMS = (  # each may import those before it
    "arguments",
    "network",
    "algebra",
    "optim",
    "plugin",
    "run",
    "solve",
    "tensor",
    "tuning",
    "layer",
    "bonds",
    "model",
    "compression.running",
    "compression.request",
    "compression.survey",
    "compression.moments",
    "compression.candidates",
    "compression.measurement",
    "compression.choice",
    "compression.reporting",
    "compression.tying",
    "compression.correction",
    "compression.refinement",
    "compression.storage",
    "compression.distillation",
    "compression",
    "deployment",
    "training",
    "bench",
    "demo",
    "",  # tenfold itself
    "tltorch",
    "testing",
    "commands",
)


def module_of(path: Path) -> str:
    parts = path.relative_to(CORE / "tenfold").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted((CORE / "tenfold").rglob("*.py"))}


def room_of(module: str) -> str:
    """The innermost room that a module is in."""
    inside = [room for room in ROOMS if room and f"{module}.".startswith(f"{room}.")]
    return max(inside, key=len, default="")


def imported(module: str) -> Iterator[str]:
    """The modules of ours that a file imports, anywhere in it: by `TYPE_CHECKING` too."""
    path = FILES[module]
    package = ["tenfold", *module.split(".")] if module else ["tenfold"]
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            whole = ".".join([*above, *filter(None, [node.module])])
            names = [(whole, alias.name) for alias in node.names]
        for whole, name in names:
            if whole.split(".")[0] == "tenfold":
                inner = whole.removeprefix("tenfold").removeprefix(".")
                file = ".".join(filter(None, (inner, name)))
                yield file if file in FILES else inner


EDGES = {module: sorted(set(imported(module)) - {module}) for module in FILES}


MOST = 250  # lines of a file: what is longer holds two concepts


def test_no_file_is_long():
    files = [*FILES.values(), *(CORE.parent / "plugins").rglob("*.py")]
    lines = {path.name: len(path.read_text().splitlines()) for path in files}
    assert {name: count for name, count in lines.items() if count > MOST} == {}


def test_every_room_is_there():
    assert {room for room in ROOMS if room not in FILES} == set()
    assert {name.split(".")[0] for name in FILES if name} <= {room.split(".")[0] for room in ROOMS}


@pytest.mark.parametrize("module", FILES)
def test_a_file_imports_no_room_above_its_own(module):
    mine = ROOMS.index(room_of(module))
    up = [
        f"tenfold.{module} imports tenfold.{other}, which stands above it"
        for other in EDGES[module]
        if ROOMS.index(room_of(other)) > mine
    ]
    assert up == []


@pytest.mark.parametrize("module", FILES)
def test_a_file_imports_another_room_by_its_door(module):
    past = [
        f"tenfold.{module} imports tenfold.{other} past the door of {room_of(other)}"
        for other in EDGES[module]
        if room_of(other) != room_of(module) and other != room_of(other)
    ]
    assert past == []


def test_no_files_import_each_other():
    left = dict(EDGES)
    while left:
        free = [module for module in left if not any(other in left for other in EDGES[module])]
        assert free, f"these import each other, or what does: {sorted(left)}"
        for module in free:
            del left[module]
