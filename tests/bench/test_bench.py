"""The commands `tenfold bench` and `tenfold tune`: what they measure, write and refuse."""

import json
import re
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from tenfold import FactorizedConv, relative_error
from tenfold.bench.measuring import dense_macs
from tenfold.bench.results import Results, pareto_front
from tenfold.commands import app as cli
from tenfold.tuning import tuner

MODELS = """
from torch import nn
from tenfold import FactorizedConv

def plain():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Linear(4, 2))

def factorized():
    layer = FactorizedConv(3, 8, 3, order=2, rank=2, implementation="auto")
    return nn.Sequential(layer, nn.ReLU(), nn.Conv2d(8, 8, 1))

made = plain()
word = "no model"
"""


def call(text, *more):
    """Run the command with the words of `text`, and `more`."""
    return CliRunner().invoke(cli.main, [*text.split(), *map(str, more)])


def flat(text):
    """The text without the frame that it is drawn in."""
    return re.sub(r"[│╭╮╰╯─\s]+", " ", text)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder with the module `bench_models`, as the current one."""
    (tmp_path / "bench_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "bench_models"
    sys.modules.pop("bench_models", None)


@pytest.fixture
def _measuring_fails(monkeypatch):
    def measure(*arguments):
        raise AssertionError("the refusal must come before any work")

    monkeypatch.setattr(tuner, "_measure", measure)
    monkeypatch.setattr("tenfold.commands.bench.measure", measure)


def bench(tmp_path, text, *more):
    """Run it, and read what it wrote."""
    done = call(f"bench {text}", *more, "--json", tmp_path / "out.json")
    assert done.exit_code == 0, done.output
    return Results.model_validate_json((tmp_path / "out.json").read_bytes()), done


class TestBench:
    def test_a_shape_is_measured_by_each_pair_at_each_rank(self, tmp_path):
        formats = "--factorization tucker --factorization CP"
        found, done = bench(tmp_path, f"8 6 3 --size 7 --batch 2 --rank 0.5 --rank 3 {formats}")
        assert found.threads == torch.get_num_threads()
        assert found.inputs == {"6 × 8 × 3 × 3": (2, 8, 7, 7)}
        dense, *rows = found.rows
        assert (dense.factorization, dense.parameters, dense.macs) == (None, 438, 2 * 432 * 49)
        ways = {"auto", "factorized", "fft", "onnxruntime", "reconstructed"}
        wanted = {("tucker", way, rank) for way in ways for rank in ("0.5", "3")}
        wanted |= {("cp", way, rank) for way in (*ways, "mobilenet") for rank in ("0.5", "3")}
        assert {(row.factorization, row.implementation, row.asked) for row in rows} == wanted
        for row in rows:
            layer = FactorizedConv(
                8, 6, 3, padding=1, order=2, rank=row.rank, factorization=row.factorization
            )
            assert row.parameters == sum(one.numel() for one in layer.parameters())
            assert row.milliseconds > 0
            assert row.dense_milliseconds > 0
            assert row.error is None
        macs = {(row.factorization, row.implementation, row.asked): row.macs for row in rows}
        assert macs["cp", "reconstructed", "3"] == dense.macs
        assert macs["cp", "factorized", "3"] == 2 * 3 * (8 + 3 + 3 + 6) * 49
        assert "thread" in done.stdout

    def test_nothing_but_the_table_is_on_stdout(self, tmp_path):
        found, done = bench(tmp_path, "4 4 1 --size 5 --factorization tucker")
        assert done.stdout.lstrip().startswith("4 × 4 × 1 × 1: input 1 × 4 × 5 × 5")
        assert len(found.rows) == 1 + 2 * 4

    def test_of_a_kernel_the_error_is_told_and_drawn(self, tmp_path):
        torch.manual_seed(0)
        conv = nn.Conv2d(8, 8, 3)
        save_file({"stem.weight": conv.weight.detach()}, tmp_path / "net.safetensors")
        text = "8 8 3 --size 6 --rank 0.4 --factorization tucker --name stem.weight"
        files = ["--weights", tmp_path / "net.safetensors", "--plot", tmp_path / "out.png"]
        found, done = bench(tmp_path, text, *files)
        kernel = FactorizedConv.from_conv(conv, rank=0.4, factorization="tucker").weight
        wanted = relative_error(conv.weight, kernel.to_tensor())
        assert found.rows[0].error == 0
        assert [row.error for row in found.rows[1:]] == pytest.approx([wanted] * 5)
        assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
        assert f"{wanted:.3f}" in done.stdout

    def test_the_layers_of_a_model_are_measured_on_what_they_see(self, tmp_path, models):
        pair = "--factorization spatial_svd --implementation factorized"
        found, _ = bench(tmp_path, f"--model {models}:plain --input 2,3,6,6 {pair}")
        assert found.inputs == {"0": (2, 3, 6, 6), "2": (2, 8, 4, 4)}
        assert [row.layer for row in found.rows] == ["0"] * 3 + ["2"] * 3
        assert all(row.error is not None for row in found.rows)

    def test_one_layer_of_a_model_may_be_chosen(self, tmp_path, models):
        pair = "--rank 1 --factorization tucker --implementation reconstructed"
        found, _ = bench(tmp_path, f"--model {models}:made --input 1,3,6,6 --layer 2 {pair}")
        assert list(found.inputs) == ["2"]

    def test_a_rank_may_be_aligned(self, tmp_path):
        pair = "--factorization tucker --implementation factorized"
        found, _ = bench(tmp_path, f"32 32 3 --size 4 --rank 0.5 --align 8 {pair}")
        assert all(one % 8 == 0 for one in found.rows[1].rank)

    def test_the_dtype_may_be_chosen(self, tmp_path):
        pair = "--factorization tucker --rank 2 --implementation factorized"
        found, done = bench(tmp_path, f"8 8 3 --size 5 --dtype bfloat16 {pair}")
        assert found.dtype == "bfloat16"
        assert "bfloat16" in done.stdout

    @pytest.mark.parametrize("transposed", [False, True])
    def test_the_macs_of_dense_are_its_products(self, transposed):
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        conv, x = kind(4, 6, 3, stride=2, groups=2), torch.randn(2, 4, 9, 9)
        layer = FactorizedConv.from_conv(conv, implementation="reconstructed")
        assert dense_macs(conv, x) == 2 * layer.macs((9, 9))


class TestPareto:
    @given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
    def test_the_front_is_what_nothing_beats(self, points):
        def beaten(i):
            return any(
                (p[0] <= points[i][0] and p[1] <= points[i][1]) and (p != points[i] or j < i)
                for j, p in enumerate(points)
                if j != i
            )

        assert sorted(pareto_front(points)) == [i for i in range(len(points)) if not beaten(i)]


@pytest.mark.usefixtures("_measuring_fails", "models")
class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("8 8", "give IN OUT K"),
            ("8 8 3 --size banana", "--size"),
            ("8 8 3 --size 0", "positive whole numbers"),
            ("8 8 3 --size 4,4,4,4", "more than 3 axes"),
            ("8 7 3 --groups 2", "divisible by groups"),
            ("8 8 3 --rank banana", "--rank"),
            ("8 8 3 --factorization tuker", "did you mean 'tucker'"),
            ("--model bench_models --input 1,3,6,6", "must be module:factory"),
            ("--model bench_models:absent --input 1,3,6,6", "is not found"),
            ("--model no_such_module:made --input 1,3,6,6", "is not found"),
            ("--model bench_models:word --input 1,3,6,6", "it must give an nn.Module"),
            ("8 8 3 --device banana", "--device"),
            ("8 8 3 --device cuda:77", "--device"),
            ("8 8 3 --dtype int8", "--dtype"),
            ("--model bench_models:plain", "--input"),
            ("--model bench_models:factorized --input 1,4,6,6", "does not run on them"),
        ],
    )
    @pytest.mark.parametrize("command", ["bench", "tune"])
    def test_bad_arguments_are_refused_by_name(self, command, arguments, words):
        done = call(f"{command} {arguments}")
        assert done.exit_code == 2, done.output
        assert words in flat(done.output)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("8 8 3 --implementation moblenet", "did you mean 'mobilenet'"),
            ("8 8 3 --name stem.weight", "it goes with --weights"),
            ("8 8 3 --weights absent.safetensors --name a", "--weights"),
            ("8 8 3 --weights net.safetensors --name b", "which has a"),
            ("8 8 3 --weights net.safetensors --name a", "has shape (4, 4, 1, 1)"),
            ("8 8 3 --weights bench_models.py --name a", "--weights"),
            ("8 8 3 --plot x.txt", "must end in .png"),
            ("8 8 3 --json no/such/x.json", "does not exist"),
            ("--model torch.nn:ReLU --input 1,3,6,6", "has no convolution"),
            ("--model bench_models:plain --input 1,3,6,6 --layer 1", "none of its convolutions"),
        ],
    )
    def test_bad_arguments_of_bench_are_refused_by_name(self, tmp_path, arguments, words):
        save_file({"a": torch.zeros(4, 4, 1, 1)}, tmp_path / "net.safetensors")
        done = call(f"bench {arguments}")
        assert done.exit_code == 2, done.output
        assert words in flat(done.output)

    def test_a_model_with_nothing_to_tune_is_refused(self):
        done = call("tune --model bench_models:plain --input 1,3,6,6")
        assert done.exit_code == 2
        assert "implementation='auto'" in flat(done.output)


class TestTune:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TENFOLD_CACHE", str(tmp_path / "kept"))

    def test_a_shape_is_measured_ahead_for_each_format_and_rank(self, tmp_path):
        formats = "--factorization tucker --factorization cp"
        done = call(f"tune 8 8 3 --size 6 --rank 0.5 --rank 0.25 {formats}")
        assert done.exit_code == 0, done.output
        kept = [json.loads(one.read_text()) for one in (tmp_path / "kept/tuning").iterdir()]
        assert len(kept) == 4
        assert {tuple(one["situation"]["input_shape"]) for one in kept} == {(1, 8, 6, 6)}
        assert all(one["situation"]["channels_last"] for one in kept)
        for name in ("tucker 0.5", "tucker 0.25", "cp 0.5", "cp 0.25"):
            assert name in done.stdout

    def test_a_layer_of_that_shape_measures_nothing_more(self, monkeypatch):
        call("tune 8 8 3 --size 6 --rank 0.5 --contiguous --factorization tucker")
        monkeypatch.setattr(tuner, "_measure", None)
        layer = FactorizedConv(
            8, 8, 3, padding=1, order=2, rank=0.5, factorization="tucker", implementation="auto"
        )
        with torch.no_grad():
            layer.eval()(torch.randn(1, 8, 6, 6))
        assert layer.decision is not None

    def test_again_measures_what_is_known(self, tmp_path):
        text = "tune 8 8 3 --size 6 --rank 0.5 --factorization tucker"
        call(text)
        [path] = (tmp_path / "kept/tuning").iterdir()
        before = path.read_text()
        call(text)
        assert path.read_text() == before
        call(text, "--again")
        assert path.read_text() != before

    def test_the_layers_of_a_model_are_measured_ahead(self, tmp_path, models):
        done = call(f"tune --model {models}:factorized --input 2,3,6,6")
        assert done.exit_code == 0, done.output
        [path] = (tmp_path / "kept/tuning").iterdir()
        assert json.loads(path.read_text())["situation"]["input_shape"] == [2, 3, 6, 6]
