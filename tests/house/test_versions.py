"""The installed versions are in the declared ranges, and the oldest were run."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent.parent
RUN = (ROOT / "CONTRIBUTING.md").read_text().split("## Versions that were run")[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [Requirement(line) for line in PROJECT["dependencies"]]
NEEDED = [one for one in NEEDED if one.marker is None or one.marker.evaluate()]


@pytest.mark.parametrize("needed", NEEDED, ids=str)
def test_what_is_installed_is_in_its_range(needed, record_property):
    record_property(needed.name, version(needed.name))
    record_property("python", sys.version.split()[0])
    assert needed.specifier.contains(version(needed.name), prereleases=True), version(needed.name)


@pytest.mark.parametrize("needed", [one for one in NEEDED if one.name != "tomli"], ids=str)
def test_the_oldest_of_each_range_was_run(needed):
    [oldest] = [one.version for one in needed.specifier if one.operator == ">="]
    found = re.search(rf"\b{needed.name}[ =]+{re.escape(oldest)}\b", RUN)
    assert found or ((needed.name, oldest) == ("torch", "2.6") and "| 2.6.0 |" in RUN)
