"""A model as ONNX gives what the model gives, with what sizes it leaves open."""

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from tenfold import FactorizedConv, to_onnx


class Pooled(nn.Sequential):
    """Takes any batch; of other sizes the exporter does not know how to pool them."""

    def __init__(self):
        conv = FactorizedConv(3, 8, (3, 3), rank=4)
        super().__init__(conv, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5))


class Turned(nn.Module):
    """Uses an operator that tracing cannot write."""

    def __init__(self):
        super().__init__()
        self.conv = FactorizedConv(3, 8, (3, 3), rank=4)

    def forward(self, x):
        return self.conv(x).mT


def run(written, x):
    session = onnxruntime.InferenceSession(written)
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


@pytest.mark.parametrize(
    ("kind", "sizes"), [(Pooled, [(7, 8, 8)]), (Turned, [(7, 8, 8), (1, 9, 6)])]
)
def test_sizes_are_open_as_far_as_the_network_lets_them_be(kind, sizes, capfd):
    torch.manual_seed(0)
    model = kind().eval()
    written = to_onnx(model, torch.randn(1, 3, 8, 8), dynamic=True)
    assert capfd.readouterr().out == ""  # PyTorch would print the graph of what did not work
    for batch, *size in sizes:
        x = torch.randn(batch, 3, *size)
        torch.testing.assert_close(run(written, x), model(x), rtol=1e-4, atol=1e-5)


def test_what_no_exporter_can_write_is_refused():
    class Drawn(nn.Module):
        def forward(self, x):
            return torch.geqrf(x)[0]

    with pytest.raises(ValueError, match=r"torch\.onnx cannot export it"):
        to_onnx(Drawn(), torch.randn(1, 3, 8, 8))


def test_tracing_writes_what_it_can():
    written = to_onnx(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.ones(1, 3, 8, 8))
    assert [node.op_type for node in onnx.load_from_string(written).graph.node] == ["Conv", "Relu"]
