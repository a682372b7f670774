"""The command: what `tenfold plugins` shows, and what `tenfold demo` refuses before it works."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tenfold
from tenfold.commands import app as cli

FORMATS, HOOKS = "tenfold.factorizations", "tenfold.hooks"
KEYS = {"kind", "name", "distribution", "version", "target", "state", "detail"}
BROKEN = "raise OSError('no driver')"


@pytest.fixture(autouse=True)
def _a_wide_screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(autouse=True)
def _no_plugin_is_disabled(monkeypatch):
    monkeypatch.delenv("TENFOLD_DISABLE", raising=False)


def call(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def listed(*arguments):
    """What `tenfold plugins --json` lists, by kind and name, and how it exits."""
    done = call("plugins", "--json", *arguments)
    return {(one["kind"], one["name"]): one for one in json.loads(done.stdout)}, done.exit_code


def rows(text):
    """The rows of the tables, each after its table's kind, as the texts of their cells."""
    found, kind, starts, above = [], "", [], ""
    for line in text.splitlines():
        if line.startswith("name "):
            kind = above.strip()
            starts = [line.index(title) for title in ("name", "state", "distribution", "target")]
        elif starts and "─" not in line and len(line.split()) > 2:
            ends = [*starts[1:], len(line)]
            found.append([kind, *(line[a:b].strip() for a, b in zip(starts, ends, strict=True))])
        above = line
    return found


def flat(text):
    """The text without the frame that it is drawn in."""
    return re.sub(r"[│╭╮╰╯─\s]+", " ", text)


class TestPlugins:
    def test_the_table_shows_what_there_is_and_where_it_comes_from(self):
        done = call("plugins")
        assert done.exit_code == 0
        version = f"tenfold {tenfold.__version__}"
        for kind, name, target in (
            ("factorization", "cp", "tenfold_plugins.cp:CP"),
            ("implementation", "mobilenet", "tenfold_plugins.mobilenet:MobileNet"),
        ):
            assert [kind, name, "installed", version, target] in rows(done.stdout)
        for title in ("name", "state", "distribution", "target"):
            assert title in done.stdout

    def test_no_word_is_broken_at_eighty_columns(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        lines = call("plugins").stdout.splitlines()
        words = {word for line in lines for word in line.split()}
        assert max(map(len, lines)) <= 80
        for one in json.loads(call("plugins", "--json").stdout):
            parts = one["target"].split(":") if one["target"] not in words else []
            assert one["name"] in words
            assert all(part in words or f"{part}:" in words for part in parts)

    def test_the_table_has_the_same_plugins_as_the_registries(self):
        shown = {(kind, name) for kind, name, *_ in rows(call("plugins").stdout)}
        for registry in (tenfold.factorizations, tenfold.implementations):
            names = {name for kind, name in shown if kind == registry.kind}
            assert names == set(registry.names())

    def test_json_has_every_field(self):
        found, code = listed()
        assert code == 0
        assert all(set(one) == KEYS for one in found.values())
        assert found["factorization", "tt"] == {
            "kind": "factorization",
            "name": "tt",
            "distribution": "tenfold",
            "version": tenfold.__version__,
            "target": "tenfold_plugins.tt:TT",
            "state": "installed",
            "detail": "",
        }

    def test_load_says_that_the_built_in_ones_load(self):
        found, code = listed("--load")
        assert code == 0
        assert {one["state"] for one in found.values()} == {"loads"}

    def test_the_console_script_prints_json(self):
        script = Path(sys.executable).with_name("tenfold")
        done = subprocess.run([script, "plugins", "--json"], capture_output=True, check=True)
        assert {"cp", "tt", "tucker", "factorized"} <= {
            one["name"] for one in json.loads(done.stdout)
        }

    def test_the_version_is_shown(self):
        done = call("--version")
        assert done.exit_code == 0
        assert done.stdout.startswith(f"tenfold {tenfold.__version__}, torch ")

    def test_without_a_command_the_help_names_both(self):
        shown = call("--help").stdout
        assert "plugins" in shown
        assert "demo" in shown


class TestFaultyPlugins:
    @pytest.mark.parametrize("source", [BROKEN, "Acme = int", "def"])
    def test_a_broken_one_is_shown_and_exits_1(self, install, source):
        install("acme", {FORMATS: {"acme": "acme:Acme"}}, "0.7", acme=source)
        found, code = listed("--load")
        assert code == 1
        broken = found["factorization", "acme"]
        assert broken["state"] == "broken"
        assert "acme 0.7" in broken["detail"]
        assert found["factorization", "cp"]["state"] == "loads"

    def test_the_table_says_what_is_broken_and_what_to_do(self, install):
        install("acme", {FORMATS: {"acme": "acme:Acme"}}, "0.7", acme=BROKEN)
        done = call("plugins", "--load")
        assert done.exit_code == 1
        assert ["factorization", "acme", "broken", "acme 0.7", "acme:Acme"] in rows(done.stdout)
        assert "acme:acme: " in done.stdout
        assert "OSError: no driver; repair or uninstall acme" in flat(done.stdout)

    def test_one_that_is_not_lower_case_is_broken(self, install):
        source = "from tenfold import Factorization\n\nclass Acme(Factorization): factors = None\n"
        install("acme", {FORMATS: {"Acme": "acme:Acme"}}, acme=source)
        found, code = listed("--load")
        assert code == 1
        assert "not lower-case" in found["factorization", "Acme"]["detail"]

    def test_without_load_nothing_is_imported_and_it_exits_0(self, install):
        install("acme", {FORMATS: {"acme": "acme_unloaded:Acme"}}, acme_unloaded=BROKEN)
        found, code = listed()
        assert code == 0
        assert found["factorization", "acme"]["state"] == "installed"
        assert "acme_unloaded" not in sys.modules

    def test_a_name_claimed_twice_is_ambiguous_and_exits_1_with_the_remedy(self, install):
        for name in ("acme", "bolt"):
            install(name, {FORMATS: {"shared": f"{name}:Shared"}}, "2.0")
        done = call("plugins", "--load")
        assert done.exit_code == 1
        shared = [row for row in rows(done.stdout) if row[1] == "shared"]
        assert [(row[2], row[3]) for row in shared] == [
            ("ambiguous", "acme 2.0"),
            ("ambiguous", "bolt 2.0"),
        ]
        for name in ("acme", "bolt"):
            assert f"TENFOLD_DISABLE={name}:shared" in flat(done.stdout)

    def test_disabling_one_of_two_ends_the_ambiguity(self, install, monkeypatch):
        install("acme", {FORMATS: {"cp": "acme:Shared"}})
        monkeypatch.setenv("TENFOLD_DISABLE", "acme:cp")
        done = call("plugins", "--load")
        assert done.exit_code == 0
        states = {row[3].split()[0]: row[2] for row in rows(done.stdout) if row[1] == "cp"}
        assert states == {"acme": "disabled", "tenfold": "loads"}

    def test_a_disabled_one_is_shown_as_disabled_and_not_imported(self, install, monkeypatch):
        install("acme", {FORMATS: {"acme": "acme:Acme"}}, acme=BROKEN)
        monkeypatch.setenv("TENFOLD_DISABLE", "acme:acme")
        found, code = listed("--load")
        assert code == 0
        assert found["factorization", "acme"]["state"] == "disabled"
        assert "TENFOLD_DISABLE" in found["factorization", "acme"]["detail"]
        assert "acme" not in sys.modules

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            (BROKEN, "no driver"),
            ("import tenfold\n\n@tenfold.hookimpl\ndef tenfold_rnak(): pass\n", "tenfold_rnak"),
        ],
    )
    def test_a_broken_hook_plugin_is_shown_and_exits_1(self, install, source, reason):
        install("acme", {HOOKS: {"acme_hooks": "acme"}}, acme=source)
        found, code = listed("--load")
        assert code == 1
        assert found["hook", "acme_hooks"]["state"] == "broken"
        assert reason in found["hook", "acme_hooks"]["detail"]

    def test_a_working_hook_plugin_loads(self, install):
        source = "import tenfold\n\n@tenfold.hookimpl\ndef tenfold_rank(request): pass\n"
        install("acme", {HOOKS: {"acme_hooks": "acme"}}, acme=source)
        found, code = listed("--load")
        assert code == 0
        assert found["hook", "acme_hooks"]["state"] == "loads"

    def test_two_hook_plugins_of_one_name_are_not_ambiguous(self, install):
        source = "import tenfold\n\n@tenfold.hookimpl\ndef tenfold_rank(request): pass\n"
        for name in ("acme", "bolt"):
            install(name, {HOOKS: {"hooks": name}}, **{name: source})
        assert listed("--load")[1] == 0

    def test_the_extras_of_a_target_are_shown(self, install):
        install("acme", {FORMATS: {"acme": "acme:Acme [gpu]"}})
        assert ["factorization", "acme", "installed", "acme 1.2.3", "acme:Acme [gpu]"] in rows(
            call("plugins").stdout
        )


class TestDemoRefusals:
    @pytest.fixture(autouse=True)
    def _nothing_is_measured(self, monkeypatch):
        def work(*arguments):
            raise AssertionError("the refusal must come before any work")

        monkeypatch.setattr("tenfold.demo.Setting", work)

    @pytest.mark.parametrize("rank", ["banana", "0", "-1", "0.0", "nan", "inf", "1e-3x"])
    def test_a_bad_rank_is_refused_by_its_option(self, rank):
        done = call("demo", "--rank", rank)
        assert done.exit_code == 2
        shown = flat(done.output)
        assert "Invalid value for --rank" in shown
        assert f"rank={rank}" in shown.replace("'", "")
        assert "must be" in shown

    @pytest.mark.parametrize(
        ("plot", "remedy"),
        [
            ("x.txt", "x.txt must end in .png, .pdf or .svg"),
            ("x", "must end in .png, .pdf or .svg"),
            ("no/such/folder/x.png", "the folder no/such/folder does not exist"),
        ],
    )
    def test_a_plot_that_cannot_be_drawn_is_refused_by_its_option(
        self, monkeypatch, tmp_path, plot, remedy
    ):
        monkeypatch.chdir(tmp_path)
        done = call("demo", "--plot", plot)
        assert done.exit_code == 2
        assert "Invalid value for --plot" in flat(done.output)
        assert remedy in flat(done.output)

    def test_a_plot_without_matplotlib_is_refused_with_what_to_install(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        done = call("demo", "--plot", tmp_path / "x.png")
        assert done.exit_code == 2
        assert "Invalid value for --plot" in flat(done.output)
        assert "pip install 'tenfold[plot]'" in flat(done.output)
