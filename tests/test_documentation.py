"""The code in the documentation runs."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import tenfold

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def _registered_names_are_forgotten(monkeypatch):
    for registry in (tenfold.factorizations, tenfold.implementations):
        monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.usefixtures("_registered_names_are_forgotten")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs_and_prints_what_it_says(page, capsys):
    scope = {"__name__": page.stem}
    blocks = BLOCK.findall(page.read_text())
    for index, (language, code) in enumerate(blocks):
        if language != "python":
            continue
        exec(compile(code, f"{page.name}, block {index}", "exec"), scope)
        printed = capsys.readouterr().out
        follows = blocks[index + 1 : index + 2]
        if printed and follows and follows[0][0] == "text":
            assert printed == follows[0][1]


@pytest.mark.parametrize(
    "name", [module.name for module in pkgutil.walk_packages(tenfold.__path__, "tenfold.")]
)
def test_the_examples_of_docstrings_run(name):
    module = importlib.import_module(name)
    assert (
        doctest.testmod(module, extraglobs={**vars(tenfold), "torch": torch, "nn": nn}).failed == 0
    )


def test_the_readme_and_the_third_party_package_show_the_same_format():
    package = ROOT / "tests/third_party/tenfold-tensor-ring/tenfold_tensor_ring.py"
    body = package.read_text().split("def factors")[1]
    for page in ("README.md", "docs/plugins.md"):
        assert body.strip() in (ROOT / page).read_text()
    assert len(package.read_text().splitlines()) <= 40
