"""The runtimes that are shipped: what they give, what they refuse, and what is measured in them."""

import json
import subprocess
import sys
import time

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from tenfold import FactorizedConv, Runtime, compress, relative_error, runtimes, to_onnx
from tenfold.commands import app as cli
from tenfold.compression.running import prepared
from tenfold.testing import conformance

pytestmark = pytest.mark.filterwarnings("ignore")  # exporters and compilers warn of themselves
X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@conformance(runtime="eager")
class TestEager:
    """PyTorch itself."""


@conformance(runtime="onnxruntime")
class TestONNXRuntime:
    """Its CPU provider."""


@conformance(runtime="openvino")
class TestOpenVINO:
    """Its CPU plugin."""


@pytest.mark.slow
@conformance(runtime="compile", max_examples=2)
class TestCompiled:
    """Inductor."""


def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3)]
    return nn.Sequential(*layers).eval()


class Two(nn.Module):
    """It takes keywords, numbers too, and gives a dict."""

    def forward(self, left, right, factor):
        return {"sum": left + factor * right, "both": [left * right]}


@torch.no_grad()
@pytest.mark.parametrize("runtime", ["eager", "onnxruntime", "openvino"])
def test_whatever_a_network_takes_and_gives_is_flat_there(runtime):
    batch = {"left": torch.randn(2, 3), "right": torch.randn(2, 3), "factor": 3}
    run = prepared(runtime, Two(), batch)
    left, right = torch.randn(2, 2, 3)
    for found, wanted in zip(run(left, right), (left + 3 * right, left * right), strict=True):
        assert relative_error(wanted, torch.as_tensor(found)) < 1e-5


@torch.no_grad()
def test_onnx_has_open_sizes_where_asked_for_and_chains_in_place_of_layers():
    import onnx

    model = nn.Sequential(FactorizedConv(3, 8, (3, 3), rank=2), nn.ReLU())
    for dynamic, wanted in ((False, ["2", "3", "12", "12"]), (True, ["batch", "3", "x_2", "x_3"])):
        graph = onnx.load_from_string(to_onnx(model, X, dynamic=dynamic)).graph
        dims = graph.input[0].type.tensor_type.shape.dim
        assert [one.dim_param or str(one.dim_value) for one in dims] == wanted
        assert {node.op_type for node in graph.node} == {"Conv", "Relu"}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [(3, TypeError, "must be a tensor"), (torch.ones(1, 5), ValueError, "torch.onnx cannot")],
)
def test_onnx_of_what_the_model_does_not_take_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        to_onnx(net(), given)


@pytest.mark.parametrize(
    ("name", "package"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino")]
)
def test_without_its_package_a_runtime_names_the_extra(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    said = rf"runtime='{name}' cannot run the network: it needs .*pip install 'tenfold\[{name}\]'"
    with pytest.raises(ValueError, match=said):
        compress(net(), budget=0.5, example_inputs=X, runtime=name, progress=False)


class Bessel(nn.Sequential):
    """It has what ONNX has not."""

    def forward(self, x):
        return torch.special.bessel_j0(super().forward(x))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_what_it_cannot_run_is_refused_with_its_name_before_anything_is_measured(name):
    said = f"runtime='{name}' cannot run the network: .*bessel"
    with pytest.raises(ValueError, match=said):
        compress(Bessel(*net()), budget=0.5, example_inputs=X, runtime=name, progress=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("metric", ["macs", "latency"])
def test_layers_that_choose_how_they_run_choose_where_the_network_will(metric):
    options = {"budget": 0.9, "implementation": "auto", "refine": "off", "progress": False}
    model = nn.Sequential(nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3)).eval()
    x = torch.randn(2, 32, 12, 12)
    made = compress(model, example_inputs=x, metric=metric, runtime="onnxruntime", **options)
    layers = [one for one in made.model if isinstance(one, FactorizedConv)]
    assert layers
    assert {one.decision.situation.runtime for one in layers} == {"onnxruntime"}
    assert all(one.decision.situation.engine for one in layers)


def test_an_unknown_runtime_is_refused_by_name():
    with pytest.raises(ValueError, match=r"runtime='onnxruntim': .*did you mean 'onnxruntime'"):
        compress(net(), budget=0.5, example_inputs=X, runtime="onnxruntim", progress=False)


class Counting(Runtime):
    """It keeps which modules it was given, and takes longer for more parameters."""

    seen: list = []  # noqa: RUF012 - of all instances

    def prepare(self, module, example):
        self.seen.append(type(module.model).__name__)
        seconds = 2e-6 * sum(one.numel() for one in module.parameters())

        def run(*given):
            time.sleep(seconds)
            return module(*given)

        return run


@pytest.mark.parametrize("metric", ["macs", "latency"])
def test_a_compression_measures_in_the_runtime_that_it_is_told(metric, monkeypatch):
    monkeypatch.setattr(runtimes, "_registered", {"counting": Counting})
    Counting.seen.clear()
    found = compress(
        net(),
        budget=0.8,
        metric=metric,
        runtime="counting",
        factorizations="tucker",
        example_inputs=X,
        progress=False,
        never_slower=False,
    )
    networks, layers = Counting.seen.count("Sequential"), Counting.seen.count("FactorizedConv")
    assert networks >= 3  # whether it runs, and both
    assert layers > (0 if metric == "macs" else 2)
    assert found.report.runtime == "counting"
    assert "in counting" in str(found.report)


def test_bench_measures_in_the_runtime_that_it_is_told(tmp_path):
    words = f"bench 8 8 3 --size 6 --rank 0.5 --runtime onnxruntime --json {tmp_path}/r.json"
    pairs = ["--factorization", "tucker", "--implementation", "factorized"]
    done = CliRunner().invoke(cli.main, [*words.split(), *pairs])
    assert done.exit_code == 0, done.output
    assert "in onnxruntime" in done.output
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["runtime"], len(found["rows"])) == ("onnxruntime", 2)


SIGNALLED = """
import gc, signal, subprocess, sys
import torch
from torch import nn
from tenfold import runtimes
x = torch.randn(1, 3, 6, 6)
runtime = runtimes[sys.argv[1]]()
first, second = (runtime.prepare(nn.Conv2d(3, 4, 3).eval(), (x,)) for _ in range(2))
first(x), second(x)
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGCHLD, lambda *_: print("seen"))
subprocess.run([sys.executable, "-c", ""], check=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signal")
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_signals_are_handled_after_networks_that_were_there_are_gone(runtime):
    command = [sys.executable, "-W", "ignore", "-c", SIGNALLED, runtime]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "seen"), done.stderr
