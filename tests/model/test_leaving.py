"""A compressed network leaves for other programs: a real one, by every road, with its output."""

import copy
import subprocess
import sys

import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from torch import nn

import tenfold
from tenfold import FactorizedConv, Implementation, relative_error
from tenfold.demo.data import accuracy, load_cnn, load_images

# the exporters and the tracer warn of themselves
pytestmark = pytest.mark.filterwarnings("ignore")
PAIRS = {"conv1": ("tucker", "factorized"), "conv2": ("cp", "mobilenet")}
PAIRS |= {"conv3": ("tt", "factorized"), "conv4": ("spatial_svd", "factorized")}


@pytest.fixture(scope="module")
def network():
    """The demo's network, each convolution but the first another pair, at half the parameters."""
    model = load_cnn()
    for name, (factorization, implementation) in PAIRS.items():
        conv = model.get_submodule(name)
        options = {"decomposition_kwargs": {"sweeps": 5}} if factorization == "cp" else {}
        layer = FactorizedConv.from_conv(
            conv, rank=0.5, factorization=factorization, implementation=implementation, **options
        )
        setattr(model, name, layer)
    return model.eval()


@pytest.fixture(scope="module")
def images():
    """Eight images of the test part, `(8, 1, 28, 28)`."""
    return load_images()[0][:8]


@pytest.fixture(scope="module")
def wanted(network, images):
    with torch.no_grad():
        return network(images)


def run_onnx(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return torch.from_numpy(session.run(None, {given.name: x.numpy()})[0])


def wide(x):
    """Fewer, higher and wider images."""
    return torch.cat([x, x], dim=2)[:3, :, :44].repeat(1, 1, 1, 2)[..., :40]


@torch.no_grad()
def test_to_plain_has_the_network_s_output_and_nothing_of_tenfold(network, images, wanted):
    before = repr(network)
    plain = tenfold.to_plain(network)
    assert repr(network) == before
    assert all(type(module).__module__.startswith("torch.nn") for module in plain.modules())
    assert not any(module.training for module in plain.modules())
    assert relative_error(wanted, plain(images)) < 1e-5
    shared = {p.data_ptr() for p in plain.parameters()} & {
        p.data_ptr() for p in network.parameters()
    }
    assert shared == set()


def test_the_plain_network_loads_where_tenfold_cannot_be_imported(
    network, images, wanted, tmp_path
):
    torch.save(tenfold.to_plain(network), tmp_path / "plain.pt")
    torch.save(images, tmp_path / "images.pt")
    code = (
        "import sys; sys.modules['tenfold'] = None; import torch\n"
        f"model = torch.load(r'{tmp_path}/plain.pt', weights_only=False)\n"
        f"y = model(torch.load(r'{tmp_path}/images.pt'))\n"
        f"torch.save(y.detach(), r'{tmp_path}/y.pt')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert relative_error(wanted, torch.load(tmp_path / "y.pt")) < 1e-5


def test_a_shared_layer_stays_shared_and_a_single_layer_becomes_a_chain():
    layer = FactorizedConv(4, 4, (3, 3), padding=1, rank=2)
    plain = tenfold.to_plain(nn.Sequential(layer, nn.ReLU(), layer))
    assert plain[0] is plain[2]
    assert isinstance(tenfold.to_plain(layer), nn.Sequential)


def test_a_layer_that_torch_nn_cannot_be_is_named_and_code_of_its_own_becomes_dense():
    model = nn.Sequential(nn.ReLU(), FactorizedConv(4, 4, (3, 3, 3, 3), rank=2))
    with pytest.raises(ValueError, match=r"layer '1': .* order 4"):
        tenfold.to_plain(model)

    class Own(Implementation):
        def plan(self, network, geometry):
            return lambda x, factors, bias: nn.functional.conv2d(
                x, network.to_tensor(factors), bias
            )

    layer, x = FactorizedConv(4, 4, (3, 3), rank=2, implementation=Own), torch.randn(1, 4, 5, 5)
    plain = tenfold.to_plain(nn.Sequential(layer))
    assert isinstance(plain[0], nn.Conv2d)
    assert relative_error(layer(x), plain(x)) < 1e-5


@torch.no_grad()
def test_torch_export_takes_any_batch_and_size(network, images):
    dims = {0: torch.export.Dim("batch"), 2: 4 * torch.export.Dim("h", min=2, max=64)}
    dims[3] = 4 * torch.export.Dim("w", min=2, max=64)
    program = torch.export.export(network, (images,), dynamic_shapes=(dims,)).module()
    for x in (images, wide(images)):
        assert relative_error(network(x), program(x)) < 1e-5


@pytest.mark.parametrize("dynamo", [False, True], ids=["TorchScript", "dynamo"])
@torch.no_grad()
def test_onnx_takes_any_batch_and_size(network, images, tmp_path, dynamo):
    path = tmp_path / "network.onnx"
    if dynamo:
        dims = {0: torch.export.Dim("batch"), 2: 4 * torch.export.Dim("h", min=2, max=64)}
        dims[3] = 4 * torch.export.Dim("w", min=2, max=64)
        options = {"dynamic_shapes": (dims,)}
    else:
        options = {"dynamic_axes": {"x": {0: "batch", 2: "h", 3: "w"}}}
    torch.onnx.export(network, (images,), path, dynamo=dynamo, input_names=["x"], **options)
    onnx.checker.check_model(str(path))
    for x in (images, wide(images)):
        assert relative_error(network(x), run_onnx(path, x)) < 1e-4


@pytest.mark.slow
@torch.no_grad()
def test_inductor_compiles_it_whole(network, images, wanted):
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True)
    assert relative_error(wanted, compiled(images)) < 1e-4


@torch.no_grad()
def test_a_trace_has_its_output_for_any_batch_and_size(network, images, tmp_path):
    torch.jit.trace(network, (images,)).save(str(tmp_path / "network.ts"))
    traced = torch.jit.load(str(tmp_path / "network.ts"))
    for x in (images, wide(images)):
        assert relative_error(network(x), traced(x)) < 1e-5


@torch.no_grad()
def test_autocast_runs_it_in_bfloat16(network):
    images, labels = (some[:500] for some in load_images())
    exact = accuracy(network, images, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(images[:2]).dtype == torch.bfloat16
        assert abs(accuracy(network, images, labels) - exact) <= 0.02


class Calibration(CalibrationDataReader):
    def __init__(self, images):
        self.batches = iter([{"x": batch.numpy()} for batch in images.split(32)])

    def get_next(self):
        return next(self.batches, None)


@torch.no_grad()
def test_the_plain_network_is_quantized_to_int8(network, tmp_path):
    calibration, (images, labels) = load_images("train")[0][:128], load_images()
    images, labels = images[:500], labels[:500]
    options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}, "dynamo": False}
    plain = tenfold.to_plain(network)
    torch.onnx.export(plain, (images[:1],), tmp_path / "plain.onnx", **options)
    quantize_static(
        tmp_path / "plain.onnx",
        tmp_path / "int8.onnx",
        Calibration(calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
    )
    stored = onnx.load(tmp_path / "int8.onnx").graph.initializer
    assert {onnx.TensorProto.INT8} <= {one.data_type for one in stored}
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * (tmp_path / "plain.onnx").stat().st_size
    right = run_onnx(tmp_path / "int8.onnx", images).argmax(1) == labels
    assert accuracy(network, images, labels) - right.float().mean().item() <= 0.03


@torch.no_grad()
def test_what_left_does_not_follow_the_network(network, images, wanted):
    other = copy.deepcopy(network)
    plain = tenfold.to_plain(other)
    for parameter in other.parameters():
        parameter.mul_(0.5)
    assert relative_error(wanted, plain(images)) < 1e-5
