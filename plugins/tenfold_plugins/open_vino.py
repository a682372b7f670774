"""Run a network in OpenVINO, on the CPU."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn

from tenfold import Runtime, to_onnx
from tenfold.plugin import Ready


class OpenVINO(Runtime):
    """OpenVINO's CPU plugin in float32, on as many threads as PyTorch; <https://docs.openvino.ai>."""

    description = "OpenVINO, CPU"

    def prepare(self, module: nn.Module, example: tuple[Tensor, ...]) -> Ready:
        try:
            import openvino
        except ImportError:
            raise ValueError("it needs OpenVINO: pip install 'tenfold[openvino]'") from None
        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        model = to_onnx(module, example)
        try:
            core = openvino.Core()
            compiled: Any = core.compile_model(core.read_model(BytesIO(model)), "CPU", options)
        except RuntimeError as fault:
            raise ValueError(f"OpenVINO does not take it: {fault}") from fault

        def run(*given: Tensor) -> list[Tensor]:
            found = compiled([x.numpy() for x in given])
            return [torch.from_numpy(found[index].copy()) for index in range(len(found))]

        return run
