"""Run a network in OpenVINO, on the CPU."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tenfold import Runtime, to_onnx
from tenfold.plugin import Ready


class OpenVINO(Runtime):
    """OpenVINO's CPU plugin in float32, on as many threads as PyTorch; <https://docs.openvino.ai>."""

    description = "OpenVINO, CPU"
    in_process = True

    def prepare(self, module: nn.Module, example: tuple[Tensor, ...]) -> Ready:
        _check_installed()
        return _compiled(BytesIO(to_onnx(module, example)))

    def open(self, path: Path) -> Ready:
        _check_installed()
        return _compiled(path) if path.suffix in (".onnx", ".xml") else super().open(path)

    def version(self) -> str:
        _check_installed()
        import openvino

        return str(openvino.__version__)


def _check_installed() -> None:
    try:
        import openvino  # noqa: F401
    except ImportError:
        raise ValueError("it needs OpenVINO: pip install 'tenfold[openvino]'") from None


@cache
def _core() -> Any:
    """The one core of a process.

    Each has a stack for signals, which becomes the thread's. Of two that go in the order in which
    they came, the second gives back the first's, which is no more: the next signal ends the
    process.
    """
    import openvino

    return openvino.Core()


def _compiled(model: BytesIO | Path) -> Ready:
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        core = _core()
        compiled = core.compile_model(core.read_model(model), "CPU", options)
    except RuntimeError as fault:
        raise ValueError(f"OpenVINO does not take it: {fault}") from fault

    def run(*given: Tensor) -> list[Tensor]:
        found = compiled([x.numpy() for x in given])
        return [torch.from_numpy(found[index].copy()) for index in range(len(found))]

    return run
