"""Run a network in ONNX Runtime, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tenfold import Runtime, to_onnx
from tenfold.plugin import Ready


class ONNXRuntime(Runtime):
    """ONNX Runtime's CPU provider, on as many threads as PyTorch; <https://onnxruntime.ai>.

    Its idle threads sleep: those of networks that run in turn would take the processor from others.
    """

    description = "ONNX Runtime, CPU"
    in_process = True

    def prepare(self, module: nn.Module, example: tuple[Tensor, ...]) -> Ready:
        _check_installed()
        return _session(to_onnx(module, example))

    def open(self, path: Path) -> Ready:
        _check_installed()
        return _session(str(path)) if path.suffix == ".onnx" else super().open(path)

    def version(self) -> str:
        _check_installed()
        import onnxruntime

        return str(onnxruntime.__version__)


def _check_installed() -> None:
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise ValueError("it needs ONNX Runtime: pip install 'tenfold[onnxruntime]'") from None


def _session(model: bytes | str) -> Ready:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # its errors are raised
    try:
        session: Any = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    except Exception as fault:  # of its own classes
        raise ValueError(f"ONNX Runtime does not take it: {fault}") from fault
    names = [one.name for one in session.get_inputs()]

    def run(*given: Tensor) -> list[Tensor]:
        feeds = {name: x.numpy() for name, x in zip(names, given, strict=True)}
        return [torch.from_numpy(y) for y in session.run(None, feeds)]

    return run
