"""`tenfold doctor`: the truth about an installation, and exit 1 where something is wrong."""

import json
import os

import pytest
import torch
from typer.testing import CliRunner

import tenfold
from tenfold import FactorizedConv, factorizations
from tenfold.commands import app as cli
from tenfold.commands import doctor
from tenfold.plugin.listing import list_plugins

FORMATS, WAYS = "tenfold.factorizations", "tenfold.implementations"
WRONG_RUNNER = """
from tenfold import Implementation

class Doubled(Implementation):
    def plan(self, network, geometry):
        return run

def run(x, factors, bias):
    import torch
    return 0.5 * torch.nn.functional.conv2d(x, torch.ones(8, 6, 3, 3), bias, (2, 1), 1)
"""


def examined():
    done = CliRunner().invoke(cli.main, ["doctor", "--json"])
    return json.loads(done.stdout), done.exit_code


def test_of_a_sound_installation_it_tells_everything_and_exits_0(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found, code = examined()
    assert code == 0
    assert found["versions"]["tenfold"] == tenfold.__version__
    assert found["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert found["threads"]["of an operation"] == str(torch.get_num_threads())
    assert found["variables"]["OMP_NUM_THREADS"] == "1"
    assert found["plugins"]["factorization cp"] == f"loads, tenfold {tenfold.__version__}"
    assert set(found["conversion"]) == {"cp", "tucker", "tt"}
    assert all("factorized" in said for said in found["conversion"].values())


def test_the_table_has_the_same_words():
    done = CliRunner().invoke(cli.main, ["doctor"])
    assert done.exit_code == 0
    for word in ("versions", "devices", "threads", "caches", "plugins", "conversion", "oneDNN"):
        assert word in done.stdout


def test_nothing_is_written_and_the_environment_is_left(monkeypatch, tmp_path):
    monkeypatch.setenv("TENFOLD_CACHE", str(tmp_path / "choices"))
    found, _ = examined()
    assert found["caches"]["choices of auto"] == f"{tmp_path / 'choices'} (0 kept)"
    assert os.environ["TENFOLD_CACHE"] == str(tmp_path / "choices")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_plugin_is_wrong_and_exits_1(install):
    install("acme", {FORMATS: {"acme": "acme:Acme"}}, "0.7", acme="raise OSError('no driver')")
    found, code = examined()
    assert code == 1
    said = found["plugins"]["factorization acme"]
    assert said.startswith("WRONG: broken: ")
    assert "no driver; repair or uninstall acme, or set TENFOLD_DISABLE=acme:acme" in said
    assert not found["conversion"]["cp"].startswith("WRONG")


def test_an_implementation_that_computes_something_else_is_found_out(install):
    install("acme", {WAYS: {"doubled": "acme:Doubled"}}, acme=WRONG_RUNNER)
    found, code = examined()
    assert code == 1
    assert found["conversion"]["cp"].startswith("WRONG: ArithmeticError: the output is off by")


def test_a_cache_that_cannot_be_written_to_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setenv("TENFOLD_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    found, code = examined()
    assert code == 1
    assert "cannot be written to: set TENFOLD_CACHE" in found["caches"]["choices of auto"]


def test_a_missing_package_is_wrong_and_a_missing_extra_is_not(monkeypatch):
    def version(name):
        if name in ("pluggy", "tensorly"):
            raise doctor.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(doctor, "version", version)
    found = doctor.versions()
    assert (found["pluggy"], found["tensorly"]) == ("WRONG: not installed", "not installed")


@pytest.mark.parametrize(
    ("items", "name"), [("acme", "acme"), (" acme:none , tenfold:CP", "acme:none")]
)
def test_an_item_of_tenfold_disable_that_names_nothing_is_told(monkeypatch, items, name):
    monkeypatch.setenv("TENFOLD_DISABLE", items)
    listed = json.loads(CliRunner().invoke(cli.main, ["plugins", "--json"]).stdout)
    (unmatched,) = [one for one in listed if one["state"] == "unmatched"]
    assert (unmatched["kind"], unmatched["name"]) == ("TENFOLD_DISABLE", name)
    assert "write distribution:name" in unmatched["detail"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("Acme = 3", "must be a subclass of tenfold.Factorization"),
        ("from tenfold import Factorization as Acme", "is abstract: it must define factors"),
        ("", "AttributeError"),
        (
            "from tenfold import Factorization\nclass Acme(Factorization):\n"
            "    def __init__(self, size): pass\n    def factors(self, order, rank): pass",
            "cannot be made without size",
        ),
    ],
    ids=["exits", "no class", "abstract", "no such name", "needs arguments"],
)
def test_each_broken_state_is_listed_with_the_reason_and_what_to_do(install, source, reason):
    install("acme", {FORMATS: {"acme": "acme:Acme"}}, "0.7", acme=source)
    done = CliRunner().invoke(cli.main, ["plugins", "--load", "--json"])
    assert done.exit_code == 1
    (broken,) = [one for one in json.loads(done.stdout) if one["state"] == "broken"]
    assert reason in broken["detail"]
    for part in ("acme 0.7", "acme:Acme", "uninstall acme", "TENFOLD_DISABLE=acme:acme"):
        assert part in broken["detail"]


def test_a_misspelt_group_is_shown_with_the_right_one(install):
    install("acme", {"tenfold.factorisations": {"matrix": "acme:Matrix"}}, acme="")
    [one] = [one for one in list_plugins() if one.distribution == "acme"]
    assert (one.state, one.kind) == ("broken", "tenfold.factorisations")
    assert one.detail == "no such group: its author must write tenfold.factorizations"


def test_a_distribution_with_damaged_metadata_is_shown_and_hides_no_other(install, tmp_path):
    install("acme", {FORMATS: {"matrix": "acme:Matrix"}}, acme="")
    (next((tmp_path / "acme").glob("*.dist-info")) / "entry_points.txt").write_text(
        f"[{FORMATS}]\nno line\n"
    )
    [one] = [one for one in list_plugins() if one.distribution == "acme"]
    assert (one.state, one.kind) == ("broken", "distribution")
    assert "reinstall or uninstall it" in one.detail
    assert "cp" in factorizations.names()
    assert FactorizedConv(4, 4, (3, 3), rank=2).rank == 2
