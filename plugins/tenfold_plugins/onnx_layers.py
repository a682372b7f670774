"""Hand a layer's convolutions to ONNX Runtime, inside a PyTorch model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tenfold import Implementation, implementations
from tenfold.network import Geometry, KernelNetwork
from tenfold.plugin import Plan, Prepared
from tenfold.run import lower

ORDERS = (1, 2, 3)
OPSET, IR = 13, 8  # of ONNX: what every ONNX Runtime from 1.18 on takes
INSTEAD = "use implementation='factorized'"


class ONNXRuntimeLayers(Implementation):
    """The convolutions of `factorized`, in eval and without gradients by ONNX Runtime on the CPU.

    There it is float32 alone, and all else is PyTorch's. It pays for images one at a time with the
    channels apart, where it is faster than the same convolutions in PyTorch; <https://onnxruntime.ai>.
    """

    def plan(self, network: KernelNetwork, geometry: Geometry) -> Handed:
        if geometry.order not in ORDERS:
            raise ValueError(f"it has orders 1 to 3, and this is order {geometry.order}: {INSTEAD}")
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
        except ImportError:
            raise ValueError(
                f"it needs ONNX Runtime: pip install 'tenfold[onnxruntime]', or {INSTEAD}"
            ) from None
        partition = implementations["factorized"]().plan(network, geometry)
        assert not callable(partition)
        return Handed(lower(network, partition, geometry), geometry)


@dataclass(frozen=True)
class Handed(Plan):
    """A chain that PyTorch runs in training, and ONNX Runtime once its weights stay."""

    chain: Plan
    geometry: Geometry

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        return self.chain(x, factors, bias)

    def prepare(self, factors: Sequence[Tensor], bias: Tensor | None) -> Prepared:
        here = self.chain.prepare(factors, bias)
        if factors[0].dtype != torch.float32 or not factors[0].is_cpu:
            return here
        modules = self.chain.to_modules(factors, bias)
        assert modules is not None
        return Session(written(modules, self.geometry.order), here, self.geometry)

    def macs(self, size: Sequence[int]) -> int | None:
        return self.chain.macs(size)

    def to_modules(self, factors: Sequence[Tensor], bias: Tensor | None) -> Sequence[nn.Module]:
        modules = self.chain.to_modules(factors, bias)
        assert modules is not None
        return modules


class Session:
    """Convolutions written as ONNX, run by ONNX Runtime on as many threads as PyTorch has.

    Inputs that it does not take go the way `here`.
    """

    def __init__(self, model: bytes, here: Prepared, geometry: Geometry) -> None:
        self.model, self.here, self.geometry = model, here, geometry
        self.sessions: dict[int, Any] = {}  # by the number of threads

    def __call__(self, x: Tensor) -> Tensor:
        plain = x.dtype == torch.float32 and x.is_cpu and x.numel() > 0
        if not plain or torch.is_autocast_enabled("cpu"):
            return self.here(x)
        self.geometry.check_size(x.shape[2:])
        threads = torch.get_num_threads()
        session = self.sessions.get(threads)
        if session is None:
            session = self.sessions[threads] = opened(self.model, threads)
        (y,) = session.run(None, {"x": x.detach().contiguous().numpy()})
        return torch.from_numpy(y)


def opened(model: bytes, threads: int) -> Any:
    """A session whose idle threads sleep: PyTorch has its own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # its errors are raised
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])


def written(modules: Sequence[Any], order: int) -> bytes:
    """Convolutions, one after another, as ONNX with the batch and the sizes open."""
    from onnx import TensorProto, helper, numpy_helper

    names = ["x", *(f"x{index}" for index in range(1, len(modules))), "y"]
    nodes, held = [], []
    for index, module in enumerate(modules):
        given = [names[index]]
        for name in ("weight", "bias"):
            value = getattr(module, name)
            if value is not None:
                given.append(f"{name}{index}")
                held.append(numpy_helper.from_array(value.detach().cpu().numpy(), given[-1]))
        options: dict[str, Any] = {
            "kernel_shape": module.kernel_size,
            "strides": module.stride,
            "pads": (*module.padding, *module.padding),
            "dilations": module.dilation,
            "group": module.groups,
        }
        if module.transposed:
            options["output_padding"] = module.output_padding
        kind = "ConvTranspose" if module.transposed else "Conv"
        nodes.append(helper.make_node(kind, given, [names[index + 1]], **options))
    channels = modules[0].in_channels, modules[-1].out_channels
    ends = [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, ["batch", count, *(f"{name}_{axis}" for axis in range(order))]
        )
        for name, count in zip("xy", channels, strict=True)
    ]
    graph = helper.make_graph(nodes, "layer", ends[:1], ends[1:], held)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR)
    made: bytes = model.SerializeToString()
    return made
