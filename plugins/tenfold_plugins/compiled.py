"""Run a network compiled by PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tenfold import Runtime
from tenfold.plugin import Ready


class Compiled(Runtime):
    """`torch.compile` with its own defaults, for fixed sizes; on the inputs' device."""

    description = "torch.compile"
    in_process = True

    def prepare(self, module: nn.Module, example: tuple[Tensor, ...]) -> Ready:
        def run(*given: Tensor) -> tuple[Tensor, ...]:
            outputs: tuple[Tensor, ...] = module(*(x.clone() for x in given))
            return outputs

        # torch keeps a few compiled versions of each code object, and runs further ones eagerly
        run.__code__ = run.__code__.replace()
        compiled: Ready = torch.compile(run, dynamic=False)
        try:
            with torch.no_grad():
                compiled(*example)
        except Exception as fault:
            reason = f"{type(fault).__name__}: {str(fault).splitlines()[0]}"
            raise ValueError(
                f"torch.compile does not take it ({reason}): use runtime='eager'"
            ) from fault
        return compiled
