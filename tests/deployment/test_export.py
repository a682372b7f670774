"""`tenfold.export` and its command: what is in the file, what is measured, what is refused."""

import copy
import sys

import onnx
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import tenfold
from tenfold import FactorizedConv, export, relative_error, runtimes
from tenfold.commands import app as cli
from tenfold.deployment.files import RUNTIMES
from tenfold.deployment.work import Work

# the exporters warn of themselves
pytestmark = pytest.mark.filterwarnings("ignore")
SUFFIXES = (".onnx", ".xml", ".pt2")


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def net():
    """A factorized layer and a dense one, each with a normalisation that has seen something."""
    torch.manual_seed(0)
    layer = FactorizedConv(3, 16, (3, 3), padding=1, rank=0.6, factorization="tucker")
    model = nn.Sequential(
        layer, nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.BatchNorm2d(8)
    )
    model(3 * drawn(8, 3, 9, 9) + 1)
    return model.eval()


X, MORE = drawn(2, 3, 12, 12), [drawn(4, 3, 12, 12), drawn(1, 3, 12, 12)]


def run(path, *inputs):
    """Run a file in the runtime that is its own."""
    return runtimes[RUNTIMES[path.suffix]]().open(path)(*inputs)


@torch.no_grad()
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_gives_what_the_network_gives_for_any_batch_and_size(tmp_path, suffix):
    model = net()
    before = copy.deepcopy(model.state_dict())
    found = export(model, tmp_path / f"net{suffix}", example_inputs=X, calibration=MORE)
    assert found.open == ("batch", "sizes")
    assert [one.name for one in found.variants] == ["dense", "factorized"]
    assert found.variants[-1].error < 1e-4
    for x in (X, *MORE, drawn(5, 3, 15, 20)):
        assert relative_error(model(x), run(found.path, x)[0]) < 1e-4
    stem = {one.name for one in tmp_path.iterdir()}
    assert stem == ({"net.xml", "net.bin"} if suffix == ".xml" else {f"net{suffix}"})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_normalisation_is_in_the_last_convolution_of_a_chain_and_activations_stay(tmp_path):
    export(net(), tmp_path / "net.onnx", example_inputs=X)
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert [node.op_type for node in graph.node] == ["Conv"] * 3 + ["Relu", "Conv"]


@torch.no_grad()
def test_a_compression_is_written_and_the_table_has_each_variant(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3)).eval()
    made = tenfold.compress(model, budget=0.5, example_inputs=X, progress=False, never_slower=False)
    found = export(made, tmp_path / "net.onnx", example_inputs=X)
    assert relative_error(made.model(X), run(found.path, X)[0]) < 1e-4
    assert found.variants[0].bytes > found.variants[1].bytes == found.path.stat().st_size
    text = str(found)
    for words in ("net.onnx: ONNX Runtime, CPU", "dense", "factorized", "2×3×12×12", "open: batch"):
        assert words in text


class Odd(nn.Module):
    """It takes keywords and whole numbers, gives a dict, and has a size of its own."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 2)

    def forward(self, x, shift):
        return {"y": self.linear(x.flatten(1)), "z": [x.sum(2) + shift.unsqueeze(1)]}


@torch.no_grad()
def test_keywords_go_in_one_after_another_and_tensors_come_out_so_and_sizes_stay(tmp_path):
    batch = {"x": drawn(3, 2, 3), "shift": torch.tensor([1, 2, 3])}
    model = Odd()
    found = export(model, tmp_path / "net.onnx", example_inputs=batch)
    assert found.open == ("batch",)
    assert [one.name for one in found.variants] == ["dense"]
    other = drawn(5, 2, 3), torch.arange(5)
    wanted = model(*other)
    y, z = run(found.path, *other)
    assert relative_error(wanted["y"], y) < 1e-5
    assert relative_error(wanted["z"][0], z) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_int8_is_written_with_what_it_cost(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(Work, "times", lambda work: dict.fromkeys(work.runs, 1.0))
    model = net()
    found = export(model, tmp_path / f"net{suffix}", example_inputs=X, calibration=MORE, int8=True)
    small, whole = found.variants[-1], found.variants[-2]
    assert (small.name, whole.name) == ("int8", "factorized")
    assert whole.error < 1e-4 < 1e-3 < small.error < 0.2
    gap = relative_error(model(X), run(found.path, X)[0])
    assert 1e-3 < gap < 0.2
    if suffix == ".onnx":
        graph = onnx.load(found.path).graph
        scales = [one for one in graph.initializer if one.data_type == onnx.TensorProto.INT8]
        assert {one.dims[0] for one in scales} >= {16, 8}
        assert any(node.op_type == "QuantizeLinear" for node in graph.node)


@torch.no_grad()
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_the_layers_that_cost_most_are_left_in_float_for_the_sake_of_an_error(
    tmp_path, suffix, monkeypatch
):
    monkeypatch.setattr(Work, "times", lambda work: dict.fromkeys(work.runs, 1.0))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1))
    model[2].bias.data += 300  # the steps are as large as what the last layer takes away
    model[3].bias.data -= model[3].weight.flatten(1) @ model[2].bias
    given = {"example_inputs": X, "int8": True}
    whole = export(model, tmp_path / "whole.onnx", **given)
    assert whole.left == ()
    most = whole.variants[-1].error / 4
    found = export(model, tmp_path / f"net{suffix}", max_error=most, **given)
    assert found.variants[-1].error <= most
    assert 1 <= len(found.left) <= 2
    assert not any("/0/" in name for name in found.left)
    assert f"in float32 for max_error: {found.left[0]}" in str(found)
    assert relative_error(model(X), run(found.path, X)[0]) <= 2 * most


REFUSED = {
    r"path='.*net\.tflite' must end in \.onnx, \.xml, \.pt2": {"name": "net.tflite"},
    r"the folder .* does not exist": {"name": "nowhere/net.onnx"},
    r"max_error=0\.1 must be above 0, and goes with int8=True": {"max_error": 0.1},
    r"torch\.export archives have none": {"name": "net.pt2", "int8": True},
    r"int8=True changes the output by .* more than max_error=1e-06: ask for": {
        "int8": True,
        "max_error": 1e-6,
    },
    r"runtime='onnx' is not installed": {"runtime": "onnx"},
    r"runtime='eager' cannot open it: Eager opens no \.onnx file": {"runtime": "eager"},
    r"example_inputs do not run through the model": {"example_inputs": drawn(1, 4, 12, 12)},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused_is_not_written(tmp_path, message):
    asked = {"name": "net.onnx", "example_inputs": X, **REFUSED[message]}
    with pytest.raises(ValueError, match=message):
        export(net(), tmp_path / asked.pop("name"), **asked)
    assert list(tmp_path.iterdir()) == []


def test_an_int8_that_is_slower_once_is_measured_again(tmp_path, monkeypatch):
    times = iter([{"dense": 3.0, "int8": 4.0}, {"dense": 3.0, "int8": 2.0}])
    monkeypatch.setattr(Work, "times", lambda work: next(times))
    made = export(nn.Conv2d(3, 4, 3), tmp_path / "net.onnx", example_inputs=X, int8=True)
    assert [one.milliseconds for one in made.variants] == [3.0, 2.0]


def test_an_int8_that_is_slower_is_refused_with_both_times(tmp_path, monkeypatch):
    times = {"dense": 3.0, "factorized": 1.0, "int8": 2.0}
    monkeypatch.setattr(Work, "times", lambda work: times)
    with pytest.raises(ValueError, match=r"int8=True is slower in onnxruntime: 2\.000 ms for 1"):
        export(net(), tmp_path / "net.onnx", example_inputs=X, int8=True)
    assert list(tmp_path.iterdir()) == []


class Deciding(nn.Module):
    """Tracing takes what it decides by its input for decided."""

    def forward(self, x):
        return x if float(x.sum()) > 0 else 2 * x


def test_a_file_that_does_not_give_what_the_network_gives_is_refused(tmp_path):
    x = torch.ones(1, 3)
    with pytest.raises(ValueError, match=r"the file changes the output by .*decides by its input"):
        export(Deciding(), tmp_path / "net.onnx", example_inputs=x, calibration=[-x])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_without_its_package_an_export_names_the_extra(tmp_path, suffix, monkeypatch):
    monkeypatch.setitem(sys.modules, RUNTIMES[suffix], None)
    with pytest.raises(ValueError, match=r"pip install 'tenfold\["):
        export(net(), tmp_path / f"net{suffix}", example_inputs=X)


MODELS = """
import torch
from torch import nn

def made():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())

def batches():
    return [(torch.randn(2, 3, 9, 9), torch.zeros(2)) for _ in range(2)]
"""


@pytest.fixture
def _models(tmp_path, monkeypatch):
    (tmp_path / "export_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("export_models", None)


def call(text):
    return CliRunner().invoke(cli.main, text.split())


@pytest.mark.usefixtures("_models")
def test_the_command_writes_what_a_directory_or_a_factory_gives(tmp_path):
    layer = FactorizedConv(3, 16, (3, 3), rank=4)
    tenfold.save(nn.Sequential(layer, nn.ReLU()), tmp_path / "small")
    model, data = "export_models:made", "--data export_models:batches"
    for text, wanted in (
        (f"export small small.onnx --model {model} {data}", "factorized"),
        (f"export {model} dense.onnx --input 1,3,8,8 --runtime openvino", "OpenVINO"),
    ):
        done = call(text)
        assert done.exit_code == 0, done.output
        assert wanted in done.output
    with torch.no_grad():
        x = drawn(1, 3, 7, 7)
        assert relative_error(layer(x).relu(), run(tmp_path / "small.onnx", x)[0]) < 1e-4


@pytest.mark.usefixtures("_models")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("export export_models:made net.onnx", "--data"),
        ("export export_models:made net.onnx --int8 --input 1,3,8,8", "calibrated on it"),
        ("export export_models:made net.jpg --input 1,3,8,8", "must end in"),
    ],
)
def test_the_command_refuses_in_words(text, words):
    done = call(text)
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", " ").split())
