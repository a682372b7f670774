"""Run a network in PyTorch, as it is."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tenfold import Runtime
from tenfold.plugin import Ready


class Eager(Runtime):
    """PyTorch, call by call; on the inputs' device."""

    description = "PyTorch, eager"
    in_process = True

    def prepare(self, module: nn.Module, example: tuple[Tensor, ...]) -> Ready:
        def run(*given: Tensor) -> tuple[Tensor, ...]:
            outputs: tuple[Tensor, ...] = module(
                *(x.clone() for x in given)
            )  # it may work in place
            return outputs

        return run

    def open(self, path: Path) -> Ready:
        if path.suffix != ".pt2":
            return super().open(path)
        program: Ready = torch.export.load(path).module()
        return program
