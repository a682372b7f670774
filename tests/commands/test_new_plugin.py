"""`tenfold new-plugin` writes a package that works."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tenfold.commands.app import main


def written(tmp_path, name="acme-formats"):
    return CliRunner().invoke(main, ["new-plugin", name, "--in", str(tmp_path)])


def test_it_writes_a_package_with_tests_ci_and_a_readme(tmp_path):
    assert written(tmp_path).exit_code == 0
    place = tmp_path / "acme-formats"
    names = sorted(str(one.relative_to(place)) for one in place.rglob("*") if one.is_file())
    assert names == [
        ".github/workflows/test.yml",
        ".gitignore",
        "README.md",
        "acme_formats.py",
        "pyproject.toml",
        "tests/test_laws.py",
    ]
    assert not [one for one in place.rglob("*") if one.is_file() and "@NAME@" in one.read_text()]


@pytest.mark.parametrize("name", ["Acme", "acme_formats", "1st", "-x", "a--b", ""])
def test_a_name_that_no_package_has_is_refused(tmp_path, name):
    found = CliRunner().invoke(main, ["new-plugin", "--in", str(tmp_path), "--", name])
    assert found.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_written_over(tmp_path):
    written(tmp_path)
    (tmp_path / "acme-formats/README.md").write_text("mine")
    assert written(tmp_path).exit_code == 2
    assert (tmp_path / "acme-formats/README.md").read_text() == "mine"


@pytest.mark.slow
def test_its_tests_pass_once_it_is_installed(tmp_path):
    """Installed as pip would leave it: the module on the path, its entry points in metadata."""
    written(tmp_path)
    site, place = tmp_path / "site", tmp_path / "acme-formats"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(place)], check=True)
    paths = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 passed" not in done.stdout
