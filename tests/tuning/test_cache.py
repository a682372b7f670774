"""The choices kept on disk: where, when they are found, and what damage does."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from platformdirs import user_cache_path
from typer.testing import CliRunner

from tenfold import FactorizedConv
from tenfold.commands.app import main
from tenfold.tuning import cache, tuner

KNOWN = """
import sys, torch
from tenfold import FactorizedConv
from tenfold.tuning import tuner
torch.set_num_threads(int(sys.argv[1]))
measured = []
measure = tuner._measure
tuner._measure = lambda *arguments: measured.append(1) or measure(*arguments)
layer = FactorizedConv(6, 6, 3, order=2, rank=2, implementation="auto").eval()
with torch.no_grad():
    layer(torch.ones(1, 6, 5, 5))
print(len(measured), layer.plan.partition)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TENFOLD_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept" / "tuning"


def decide(rank=2, size=5):
    """Make and run a layer; how often something was measured, and the decision."""
    layer = FactorizedConv(6, 6, 3, order=2, rank=rank, implementation="auto").eval()
    with torch.no_grad():
        layer(torch.ones(1, 6, size, size))
    return layer.decision


@pytest.fixture
def measured(monkeypatch):
    """The situations that were measured, in a list that grows."""
    found, measure = [], tuner._measure

    def counted(layer, x, situation):
        found.append(situation)
        return measure(layer, x, situation)

    monkeypatch.setattr(tuner, "_measure", counted)
    return found


def files(folder):
    return sorted(path for path in folder.iterdir()) if folder.exists() else []


class TestKeeping:
    def test_a_choice_is_one_json_file_of_data(self, folder):
        decision = decide()
        [path] = files(folder)
        assert json.loads(path.read_text()) == decision.model_dump(mode="json")

    def test_another_process_finds_it(self, folder, measured):
        decision = decide()
        threads = str(torch.get_num_threads())
        done = subprocess.run(
            [sys.executable, "-c", KNOWN, threads], capture_output=True, check=True, text=True
        )
        assert done.stdout.strip() == f"0 {decision.partition}"
        assert len(measured) == 1

    def test_two_processes_may_write_at_once(self, folder):
        threads = str(torch.get_num_threads())
        command = [sys.executable, "-c", KNOWN, threads]
        running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
        assert [one.communicate()[1] for one in running] == [b""] * 2
        [path] = files(folder)
        assert cache.Decision.model_validate_json(path.read_bytes()).situation is not None

    @pytest.mark.parametrize("other", [{"rank": 3}, {"size": 6}])
    def test_another_situation_is_measured(self, folder, measured, other):
        decide()
        decide(**other)
        decide()
        assert len(measured) == len(files(folder)) == 2

    def test_the_number_of_threads_is_part_of_the_situation(self, folder, measured):
        before = torch.get_num_threads()
        decide()
        torch.set_num_threads(before + 1)
        try:
            decide()
        finally:
            torch.set_num_threads(before)
        assert len({situation.threads for situation in measured}) == 2

    def test_without_the_folder_memory_knows_it(self, monkeypatch, measured, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TENFOLD_CACHE", "off")
        assert decide() == decide()
        assert len(measured) == 1
        assert list(tmp_path.iterdir()) == []

    def test_the_place_is_the_users_cache_but_where_it_is_moved(self, monkeypatch):
        monkeypatch.delenv("TENFOLD_CACHE")
        assert cache.cache_folder() == user_cache_path("tenfold", appauthor=False)
        monkeypatch.setenv("TENFOLD_CACHE", "~/elsewhere")
        assert cache.cache_folder() == Path.home() / "elsewhere"
        monkeypatch.setenv("TENFOLD_CACHE", "OFF")
        assert cache.cache_folder() is None


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            lambda text: "",
            lambda text: text[: len(text) // 2],
            lambda text: text.replace('"partition"', '"partitions"', 1),
            lambda text: text.replace('"threads": ', '"threads": 7'),
            lambda text: '{"partition": [[0]], "situation": null}',
            lambda text: "\udcff\udcfe",
            lambda text: "[" * 100_000,
            lambda text: text.replace('"threads": ', '"threads": ' + "9" * 5000),
            lambda text: text.replace("0", "NaN"),
            lambda text: text.replace("[", "[9999999999,"),
        ],
        ids=[
            "empty",
            "half",
            "field",
            "other",
            "nothing",
            "bytes",
            "deep",
            "huge",
            "not-a-number",
            "no-factor",
        ],
    )
    def test_a_damaged_file_is_told_once_measured_anew_and_replaced(self, folder, measured, damage):
        decision = decide()
        [path] = files(folder)
        whole = path.read_text()
        path.write_text(damage(whole), errors="surrogateescape")
        cache.forget()
        with pytest.warns(RuntimeWarning, match="is damaged"):
            again = decide()
        assert len(measured) == 2
        assert again.situation == decision.situation
        assert files(folder) == [path]
        cache.forget()
        assert decide() == again

    def test_what_is_no_file_is_not_read(self, folder, measured):
        decide()
        [path] = files(folder)
        path.unlink()
        path.symlink_to("/dev/zero")
        cache.forget()
        decide()
        assert len(measured) == 2
        assert not path.is_symlink()  # a choice takes its place

    def test_of_many_damaged_files_one_is_told(self, folder, measured):
        decide()
        decide(rank=3)
        for path in files(folder):
            path.write_text("damaged")
        cache.forget()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            decide()
            decide(rank=3)
        assert len(told) == 1

    def test_a_folder_that_cannot_be_written_to_is_told_once(self, tmp_path, monkeypatch, measured):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("TENFOLD_CACHE", str(tmp_path / "file"))
        with pytest.warns(RuntimeWarning, match="set TENFOLD_CACHE"):
            decide()
        decide(rank=3)
        decide()
        assert len(measured) == 2

    def test_a_file_that_cannot_be_moved_leaves_nothing_behind(self, folder, monkeypatch):
        def replace(*names):
            raise OSError("the disk is full")

        monkeypatch.setattr("os.replace", replace)
        with pytest.warns(RuntimeWarning, match="the disk is full"):
            decide()
        assert files(folder) == []


def tuned(*arguments):
    line = ("tune", "8", "8", "3", "--size", "8", "--factorization", "tucker", *arguments)
    done = CliRunner().invoke(main, list(line))
    assert done.exit_code == 0, done.output
    return done.output


def test_kept_choices_are_deleted_when_told_to(tmp_path, monkeypatch):
    monkeypatch.setenv("TENFOLD_CACHE", str(tmp_path))
    tuned()
    assert len(list((tmp_path / "tuning").iterdir())) == 1
    assert "deleted: 1 kept choices" in tuned("--clear")
    assert list((tmp_path / "tuning").iterdir()) == []


def test_a_kept_choice_that_is_slower_than_dense_now_is_told_of(monkeypatch):
    class Said:
        def __init__(self, milliseconds):
            self.milliseconds = milliseconds

    def timed(mine, theirs):
        monkeypatch.setattr("tenfold.commands.tune.in_turn", lambda *_: [Said(mine), Said(theirs)])

    def factorized(timings, levels):
        return next(index for index, level in enumerate(levels) if level > 1)

    monkeypatch.setattr("tenfold.tuning.tuner.simplest_of_the_fastest", factorized)
    timed(2.0, 1.0)
    assert "slower than dense now, as kept: tucker 0.25; --again measures anew" in tuned()
    timed(1.0, 1.0)
    assert "slower than dense" not in tuned()
    timed(2.0, 1.0)
    assert "slower than dense" not in tuned("--again")
