"""The code in the documentation runs."""

import doctest
import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
import types
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest
import torch
from tests.public import LISTED, public_names
from torch import nn

import tenfold
import tenfold.testing
from tenfold.testing import laws

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGE = ROOT / "tests/third_party/tenfold-tensor-ring"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def _registered_names_are_forgotten(monkeypatch):
    for registry in (tenfold.factorizations, tenfold.implementations, tenfold.runtimes):
        monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.usefixtures("_registered_names_are_forgotten")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs_and_prints_what_it_says(page, capsys, request):
    scope = {"__name__": page.stem}
    if PACKAGE.name in page.read_text():
        request.getfixturevalue("stranger")
    blocks = BLOCK.findall(page.read_text())
    for index, (language, code) in enumerate(blocks):
        if language != "python":
            continue
        exec(compile(code, f"{page.name}, block {index}", "exec"), scope)
        printed = capsys.readouterr().out
        follows = blocks[index + 1 : index + 2]
        if printed and follows and follows[0][0] == "text":
            assert printed == follows[0][1]


KNOWN = {name.rpartition(".")[2]: one for name, one in public_names().items()}


@pytest.mark.usefixtures("_registered_names_are_forgotten")
@pytest.mark.parametrize(
    "name", [module.name for module in pkgutil.walk_packages(tenfold.__path__, "tenfold.")]
)
def test_the_examples_of_docstrings_run(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={**KNOWN, "torch": torch, "nn": nn}).failed == 0


def test_the_readme_and_the_third_party_package_show_the_same_format():
    body = (PACKAGE / "tenfold_tensor_ring.py").read_text().split("def factors")[1]
    assert body.strip() in (ROOT / "README.md").read_text()


def test_the_readme_s_table_has_each_built_in_format():
    cells = re.findall(r"^\| (`\w+`.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    shown = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    registry = tenfold.factorizations
    ours = [n for n in registry.names() if registry[n].__module__.startswith("tenfold_plugins")]
    assert sorted(shown) == ours


@pytest.mark.parametrize(
    ("file", "most"),
    [("tenfold_tensor_ring.py", 20), ("pyproject.toml", 11), ("tests/test_laws.py", 6)],
)
def test_the_page_of_plugins_shows_the_whole_package_as_it_is(file, most):
    text = (PACKAGE / file).read_text()
    assert f"\n{text}```\n" in (ROOT / "docs/plugins.md").read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= most


def test_the_page_of_plugins_has_every_law():
    page = (ROOT / "docs/plugins.md").read_text()
    kinds = {law: ["both"] for law in laws.LAYER_LAWS}
    kinds |= {law: ["implementations"] for law in laws.RUNNING_LAWS}
    kinds |= {law: ["formats"] for law in laws.KERNEL_LAWS}
    kinds |= {law: ["runtimes"] for law in laws.RUNTIME_LAWS}
    for hook, several in laws.HOOK_LAWS.items():
        for law in several:
            kinds.setdefault(law, []).append(f"`{hook}`")
    for law, of in kinds.items():
        first = law.__doc__.strip().splitlines()[0]
        assert f"| `{law.__name__}` | {', '.join(of)} | {first} |" in page


def script(name):
    path = ROOT / "docs/scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_drawings_show_the_networks_and_plans_as_they_are():
    drawings = script("drawings")
    for name in drawings.FORMATS:
        tree = ElementTree.parse(drawings.IMAGES / f"{name}.svg")
        (shown,) = tree.iter("{http://purl.org/dc/elements/1.1/}description")
        assert json.loads(shown.text) == drawings.describe(name), "run docs/scripts/drawings.py"
        assert f"images/{name}.svg" in (ROOT / "docs/how-it-works.md").read_text()


def test_the_pictures_of_the_rooms_show_them_as_they_are():
    rooms = script("rooms")
    for name in rooms.PICTURES:
        tree = ElementTree.parse(rooms.IMAGES / f"{name}.svg")
        (shown,) = tree.iter("{http://purl.org/dc/elements/1.1/}description")
        assert json.loads(shown.text) == rooms.describe(name), "run docs/scripts/rooms.py"
        assert f"images/{name}.svg" in (ROOT / "docs/rooms.md").read_text()


def test_every_public_name_is_in_the_reference():
    names = [f"tenfold.{name}" for name in tenfold.__all__]
    names += [f"tenfold.testing.{name}" for name in tenfold.testing.__all__]
    doors = ("network", "algebra", "plugin", "run", "layer", "bonds", "demo")
    rooms = tuple(f"tenfold.{room}." for room in doors)
    assert sorted(name for name in LISTED if not name.startswith(rooms)) == sorted(names)


@pytest.mark.parametrize("name", LISTED)
def test_every_public_name_has_a_docstring(name):
    public = public_names()[name]
    kinds = (type, types.FunctionType)
    of_its_own = isinstance(public, kinds) and not get_args(public)  # Python 3.10: an alias is one
    assert len(inspect.getdoc(public if of_its_own else type(public)) or "") > 20
