"""The commands `tenfold compress` and `tenfold report`: from a line, from a file, interrupted."""

import itertools
import json
import re
import sys

import pytest
import torch
from safetensors.torch import save_file
from tests.reports import untimed
from torch import nn
from typer.testing import CliRunner

from tenfold import FactorizedConv, load, save
from tenfold.commands.app import main
from tenfold.compression.reporting.report import Report
from tenfold.compression.request.config import CompressionConfig
from tenfold.compression.request.order import Order, read_order
from tenfold.compression.storage.files import load_report

SOURCE = """
import torch
from torch import nn

def net():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
    )

def batches():
    generator = torch.Generator().manual_seed(2)
    for _ in range(4):
        yield torch.randn(8, 3, 10, 10, generator=generator)

def labelled():
    return [(batch, torch.zeros(8)) for batch in batches()]

def swapped():
    return [[torch.zeros(8), batch] for batch in batches()]

calls, stop_at = [], None

def score(model):
    calls.append(1)
    if len(calls) == stop_at:
        raise KeyboardInterrupt
    with torch.no_grad():
        return -float(model(next(batches())).square().mean())

nothing, none = 3, []
"""
numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the folder at hand, with a network and its data."""
    name = f"mine{next(numbers)}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def compress(module, *arguments, model="net"):
    common = ("--data", f"{module}:batches", "--no-progress", "-o", "small")
    return call("compress", f"{module}:{model}", *common, *arguments)


def flat(done):
    """All that was printed, without the frame that it is drawn in."""
    return re.sub(r"[│╭╮╰╯─\s]+", " ", done.output)


class TestCompress:
    def test_it_writes_a_network_within_the_budget_and_shows_the_report(self, module, tmp_path):
        done = compress(module, "--budget", 0.5)
        assert done.exit_code == 0, done.output
        found = load_report("small")
        assert found.macs.after <= 0.5 * found.macs.before
        assert "spatial_svd" in done.stdout or "tucker" in done.stdout or "channel" in done.stdout
        back = load(tmp_path / "small", sys.modules[module].net()).eval()
        assert any(isinstance(layer, FactorizedConv) for layer in back.modules())
        x = next(sys.modules[module].batches())
        dense = sys.modules[module].net().eval()
        with torch.no_grad():
            gap = (back(x) - dense(x)).norm() / dense(x).norm()
        assert gap < 5 * found.error + 0.05

    def test_weights_are_read(self, module, tmp_path):
        __import__(module)
        other = sys.modules[module].net()
        nn.init.constant_(other[6].bias, 7.0)
        save_file(other.state_dict(), tmp_path / "w.safetensors")
        torch.save(other.state_dict(), tmp_path / "w.pt")
        for path in ("w.safetensors", "w.pt"):
            done = compress(
                module, "--budget", 0.6, "--weights", path, "--no-correct", "--refine", "off"
            )
            assert done.exit_code == 0, done.output
            back = load("small", sys.modules[module].net())
            assert torch.equal(back[6].bias, torch.full((4,), 7.0))

    def test_a_file_says_the_same_as_a_line_and_the_line_comes_first(self, module, tmp_path):
        (tmp_path / "c.toml").write_text(
            f'model = "{module}:net"\ndata = "{module}:batches"\noutput = "other"\n'
            'budget = 0.5\nmetric = "parameters"\nfactorizations = ["tucker"]\nexclude = "6"\n'
            "progress = false\nnever_slower = false\n"
        )
        assert call("compress", "--config", "c.toml").exit_code == 0
        line = ("--metric", "parameters", "--factorization", "tucker", "--exclude", "6")
        line += ("--no-never-slower",)
        assert compress(module, "--budget", 0.5, *line).exit_code == 0
        one, other = load_report("other"), load_report("small")
        assert [layer.rank for layer in one.layers] == [layer.rank for layer in other.layers]
        assert {layer.factorization for layer in one.layers} <= {"tucker", None}
        assert call("compress", "-c", "c.toml", "--budget", "0.7", "-o", "third").exit_code == 0
        assert load_report("third").budget == 0.7

    def test_interrupted_it_goes_on_where_it_was(self, module):
        __import__(module)
        mine = sys.modules[module]
        arguments = ("--budget", 0.5, "--evaluate", f"{module}:score", "--no-never-slower")
        done = compress(module, *arguments)
        assert done.exit_code == 0, done.output
        whole, report = len(mine.calls), load_report("small")
        assert whole > 8
        mine.calls.clear()
        mine.stop_at = 8
        elsewhere = ("--table", "table", "-o", "again")
        done = compress(module, *arguments, *elsewhere)
        assert done.exit_code == 130
        assert "the same command goes on from table" in done.output
        mine.calls.clear()
        mine.stop_at = None
        assert compress(module, *arguments, *elsewhere).exit_code == 0
        assert len(mine.calls) < whole
        again = load_report("again")
        assert [layer.rank for layer in again.layers] == [layer.rank for layer in report.layers]

    def test_without_data_it_goes_on_only_when_told_to_and_says_that_it_is_noise(self, module):
        line = ("compress", f"{module}:net", "--budget", 0.5, "--no-progress", "-o", "small")
        noise = ("--input", "8,3,10,10")
        assert call(*line, *noise).exit_code == 2
        done = call(*line, *noise, "--without-data")
        assert done.exit_code == 0, done.output
        assert "Take care: no calibration was given" in flat(done)
        assert any("noise" in one for one in load_report("small").warnings)

    def test_a_score_is_shown_and_labels_are_left_out(self, module):
        done = compress(module, "--budget", 0.5, "--score", f"{module}:score")
        plain = load_report("small")
        assert done.exit_code == 0, done.output
        assert plain.score is not None
        done = compress(module, "--budget", 0.5, "--data", f"{module}:labelled")
        assert done.exit_code == 0, done.output
        assert untimed(load_report("small")) == untimed(plain)
        swapped = ("--data", f"{module}:swapped", "--inputs", "1")
        assert compress(module, "--budget", 0.5, *swapped).exit_code == 0
        assert untimed(load_report("small")) == untimed(plain)

    @pytest.mark.parametrize("wrap", ["state_dict", "model"])
    def test_checkpoints_as_people_have_them(self, module, wrap):
        __import__(module)
        other = sys.modules[module].net()
        nn.init.constant_(other[6].bias, 7.0)
        state = {f"module.{name}": value for name, value in other.state_dict().items()}
        torch.save({"epoch": 3, wrap: state}, "w.pt")
        done = compress(
            module, "--budget", 0.6, "--weights", "w.pt", "--no-correct", "--refine", "off"
        )
        assert done.exit_code == 0, done.output
        back = load("small", sys.modules[module].net())
        assert torch.equal(back[6].bias, torch.full((4,), 7.0))

    def test_a_pickled_module_is_refused_with_the_remedy(self, module):
        torch.save(nn.Linear(2, 2), "w.pt")
        done = compress(module, "--budget", 0.5, "--weights", "w.pt")
        assert done.exit_code == 2
        assert "a pickled module, which is code" in flat(done)
        torch.save({"epoch": 3}, "w.pt")
        done = compress(module, "--budget", 0.5, "--weights", "w.pt")
        assert "it has 'epoch', and no state_dict among them" in flat(done)

    def test_another_budget_measures_nothing_anew(self, module, tmp_path):
        assert compress(module, "--budget", 0.5).exit_code == 0
        kept = {
            p: p.stat().st_mtime_ns for p in (tmp_path / "small.measured").glob("*.safetensors")
        }
        assert kept
        assert compress(module, "--budget", 0.7).exit_code == 0
        assert {
            p: p.stat().st_mtime_ns for p in (tmp_path / "small.measured").glob("*.safetensors")
        } == kept
        assert load_report("small").budget == 0.7


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "give one of them, as budget=0.25"),
            (("--budget", 2), "budget=2.0: it must be above 0 and below 1"),
            (("--budget", 25), "may be left, as 0.25"),
            (("--budget", 0.5, "--metric", "flops"), "metric='flops'"),
            (("--budget", 0.5, "--factorization", "banana"), "'banana' is not installed"),
            (("--budget", 0.5, "--include", "nope*"), "nope*"),
            (("--budget", 0.01), "cannot be reached"),
            (("--min-score", 0.5), "needs evaluate="),
            (("--budget", 0.5, "--data", "{m}:nothing"), "gives a int: it must give batches"),
            (("--budget", 0.5, "--data", "{m}:none"), "gives no batch"),
            (("--budget", 0.5, "--data", "{m}"), "must be module:loader"),
            (("--budget", 0.5, "--evaluate", "{m}:nope"), "is not found"),
            (("--budget", 0.5, "--weights", "w.pt"), "No such file"),
            (("--budget", 0.5, "--input", "1,x"), "'1,x' must be"),
            (("--budget", 0.5, "--threads", 0), "threads"),
        ],
    )
    def test_a_bad_option(self, module, tmp_path, arguments, message):
        given = [str(argument).replace("{m}", module) for argument in arguments]
        done = compress(module, *given)
        assert done.exit_code == 2
        assert message in flat(done)
        assert not (tmp_path / "small").exists()

    def test_a_model_that_is_none_or_not_given(self, module):
        done = compress(module, "--budget", 0.5, model="nothing")
        assert done.exit_code == 2
        assert "gives a int: it must give an nn.Module" in flat(done)
        done = call("compress", "--budget", 0.5, "-o", "small")
        assert "model is missing: give it on the line" in flat(done)
        done = call("compress", f"{module}:net", "--budget", 0.5)
        assert "output is missing" in flat(done)
        done = call("compress", f"{module}:net", "--budget", 0.5, "-o", "small")
        assert "or --without-data to go on with noise" in flat(done)
        done = call("compress", f"{module}:net", "--budget", 0.5, "-o", "small", "--without-data")
        assert "needs the shape of a batch" in flat(done)

    def test_a_directory_of_other_things(self, module, tmp_path):
        (tmp_path / "small").mkdir()
        (tmp_path / "small" / "thesis.tex").write_text("mine")
        done = compress(module, "--budget", 0.5)
        assert done.exit_code == 2
        assert "holds other things than a saved network" in flat(done)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("budget = ", "cannot be read"),
            ("a = " + "[" * 100_000, "cannot be read"),
            (f"budget = {'9' * 5000}", "cannot be read"),
            (f'budget = 0.5\nmodel = "m"\noutput = "o"\nseed = {10**30}', "seed=10000"),
            (
                'bugdet = 0.5\nmodel = "m"\noutput = "o"',
                "bugdet= is no option: did you mean 'budget'? The options are",
            ),
            ('budget = "much"\nmodel = "m"\noutput = "o"', "budget='much'"),
            ('budget = 0.5\nmodel = "m"\noutput = "o"\ninput = [[1, "x"]]', "input.0.1='x'"),
        ],
    )
    def test_a_bad_file(self, tmp_path, text, message):
        path = tmp_path / "c.toml"
        path.write_text(text)
        with pytest.raises(ValueError, match=re.escape(message)):
            read_order(path, {})

    def test_every_option_of_a_compression_is_on_the_line_and_in_the_file(self):
        line = {option.name for option in typer_command("compress").params}
        assert line - {"config", "shapes"} == set(Order.model_fields) - {"input"}
        assert set(CompressionConfig.model_fields) <= set(Order.model_fields)


def typer_command(name):
    from typer.main import get_command

    return get_command(main).commands[name]


class TestSensitivity:
    def test_it_shows_each_layer_and_serves_a_compression(self, module, tmp_path):
        line = (f"{module}:net", "--data", f"{module}:labelled", "--no-progress")
        done = call("sensitivity", *line, "--table", "t", "--plot", "s.svg")
        assert done.exit_code == 0, done.output
        assert "0.25 of it" in done.stdout
        assert (tmp_path / "s.svg").exists()
        kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "t").glob("*.safetensors")}
        assert kept
        assert compress(module, "--budget", 0.5, "--table", "t").exit_code == 0
        assert {p: p.stat().st_mtime_ns for p in (tmp_path / "t").glob("*.safetensors")} == kept

    def test_a_bad_option_is_refused(self, module):
        line = ("sensitivity", f"{module}:net", "--data", f"{module}:batches", "--no-progress")
        done = call(*line, "--metric", "flops")
        assert done.exit_code == 2
        assert "metric='flops'" in flat(done)


class TestReport:
    def test_it_shows_and_writes_what_was_saved(self, module, tmp_path, monkeypatch):
        assert compress(module, "--budget", 0.5).exit_code == 0
        monkeypatch.setitem(sys.modules, "matplotlib", None)  # needed for PNG and PDF alone
        done = call("report", "small", "--html", "r.html", "--plot", "r.svg")
        assert done.exit_code == 0
        assert "network" in done.stdout
        assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
        assert (tmp_path / "r.svg").exists()
        as_json = call("report", "small", "--json")
        assert Report.from_json(as_json.stdout) == load_report("small")

    def test_of_a_model_saved_without_a_report_it_shows_the_layers(self, tmp_path):
        layers = nn.Sequential(
            FactorizedConv(16, 8, (3, 3), rank=(4, 2), factorization="tucker"), nn.Conv2d(8, 8, 1)
        )
        save(layers, tmp_path / "bare")
        done = call("report", tmp_path / "bare")
        assert done.exit_code == 0, done.output
        row = next(line for line in done.stdout.splitlines() if "tucker" in line)
        own = 8 * 4 + 16 * 2 + 4 * 2 * 9
        words = ["0", "8×16×3×3", "tucker", "factorized", "4,", "2", str(own), "(12%)"]
        assert row.split() == words
        assert "1 factorized layer" in done.stdout
        as_json = json.loads(call("report", tmp_path / "bare", "--json").stdout)
        assert as_json["layers"][0]["rank"] == [4, 2]
        refused = call("report", tmp_path / "bare", "--html", tmp_path / "r.html")
        assert refused.exit_code == 2
        assert "would need a report" in flat(refused)
        assert not (tmp_path / "r.html").exists()

    def test_of_a_model_without_factorized_layers_it_shows_that_there_is_none(self, tmp_path):
        save(nn.Sequential(nn.Conv2d(8, 8, 1)), tmp_path / "bare")
        assert "0 factorized layers" in call("report", tmp_path / "bare").stdout

    def test_what_is_not_there_or_damaged(self, tmp_path):
        done = call("report", tmp_path / "none")
        assert done.exit_code == 2
        assert "does not exist" in flat(done)
        (tmp_path / "report.json").write_text("{}")
        assert "is damaged" in flat(call("report", tmp_path))
        assert "must end in" in flat(call("report", tmp_path, "--plot", "r.jpeg"))
        assert "does not exist" in flat(call("report", tmp_path, "--html", "no/r.html"))
