"""The page of TensorLy-Torch's names is the module of them, line by line."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tenfold import tltorch
from tenfold.tltorch.refused import Refused

PAGE = (Path(__file__).parent.parent.parent / "docs" / "tensorly-torch.md").read_text()
LINES = {
    name: cell
    for names, cell in re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|$", PAGE, re.MULTILINE)
    for name in re.findall(r"`([\w.]+)`", names)
}


def found(name: str) -> object:
    one: object = tltorch
    for part in name.split("."):
        one = getattr(one, part)
    return one


@pytest.mark.parametrize("name", LINES)
def test_a_name_in_the_page_is_there_or_is_refused_as_it_says(name):
    one, cell = found(name), LINES[name]
    assert isinstance(one, Refused) == cell.startswith("refused: ")
    if isinstance(one, Refused):
        assert cell == f"refused: {one.remedy}"
        with pytest.raises(TypeError, match=re.escape(f"is not in tenfold: {one.remedy}")):
            one()
        with pytest.raises(AttributeError, match=re.escape(one.remedy)):
            one.from_tensor()


def test_every_name_of_the_module_has_a_line():
    rooms = ("functional", "tensor_hooks", "utils")
    names = [name for name in tltorch.__all__ if name != "stand_in"]
    names += [f"{room}.{name}" for room in rooms for name in getattr(tltorch, room).__all__]
    missing = [name for name in names if name not in LINES and name.split(".")[-1] not in LINES]
    assert missing == []


THEIRS = """
import inspect, tltorch
for room in (tltorch, tltorch.functional, tltorch.tensor_hooks, tltorch.utils,
             tltorch.factorized_tensors, tltorch.factorized_layers):
    for name in dir(room):
        if not name.startswith("_") and not inspect.ismodule(getattr(room, name)):
            print(room.__name__.removeprefix("tltorch").removeprefix("."), name)
"""


@pytest.mark.skipif(importlib.util.find_spec("tltorch") is None, reason="it is not installed")
def test_every_public_name_of_theirs_is_where_they_have_it():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", THEIRS], capture_output=True, text=True, check=True
    )
    missing = []
    for line in done.stdout.splitlines():
        room, _, name = line.rpartition(" ")
        if not hasattr(found(room) if room else tltorch, name):
            missing.append(line)
    assert missing == []
