"""Gradients of a network's output, and what is looked at in the run that they take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..running import Batch, call, evaluating, hooked, tensors
from ..survey import Layer
from .importance import Importance
from .looking import Looking, Passing


def importances(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Iterable[Batch],
    seed: int,
    memory: int,
    looking: Looking | None = None,
) -> Importance:
    """Measure what the layers' outputs are worth on some batches.

    By the gradients of random projections of the network's output, whose second moment is
    `E Jᵀ J` (Hutchinson 1990, doi:10.1080/03610919008812866; the output side of K-FAC, Martens and
    Grosse 2015, arXiv 1503.05671). What goes by is shown to `looking`.
    """
    looking = looking or Looking(layers, [], 1, memory, seed)
    found, count = Importance(), 1
    probes: list[tuple[Passing, Tensor]] = []

    def probe(layer: Layer) -> Any:
        def hook(_: nn.Module, given: Any, output: Tensor) -> Tensor:
            zero = torch.zeros_like(output, requires_grad=True)
            probes.append((looking.passing(layer, given[0]), zero))
            return output + zero

        return hook

    modules = [(layer, model.get_submodule(layer.name)) for layer in layers]
    handles = [one.register_forward_hook(probe(layer)) for layer, one in modules]
    handles += looking.hooks(model)
    asked = {p: p.requires_grad for p in model.parameters()}
    generator = torch.Generator().manual_seed(seed)
    try:
        model.requires_grad_(False)
        with hooked(handles), evaluating(model), torch.enable_grad():
            for index, batch in enumerate(batches):
                count = index + 1
                probes.clear()
                looking.begin()
                output = call(model, batch)
                looking.gave(output)
                given = [y for y in tensors(output) if y.requires_grad]
                reached = list(probes)  # a step that is run again for its gradient adds more
                if not given:
                    looking.forget()
                    return Importance()
                ends = [_signs(y, generator) for y in given]
                zeros = [zero for _, zero in reached]
                try:
                    gradients = torch.autograd.grad(given, zeros, ends, allow_unused=True)
                except RuntimeError:  # a step of the network has no derivative
                    looking.forget()
                    return Importance()
                seen = []
                for (one, zero), gradient in zip(reached, gradients, strict=True):
                    square = found.add(one.layer, index, zero if gradient is None else gradient)
                    seen.append((one, square))
                looking.see(index, seen)
    finally:
        for parameter, wanted in asked.items():
            parameter.requires_grad_(wanted)
    return found.finished(memory, count)


def _signs(output: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs, over the norm of the output."""
    drawn = torch.randint(2, output.shape, generator=generator).to(output)
    size: Tensor = output.detach().nan_to_num(0, 0, 0).norm().clamp_min(1e-12)
    return (2 * drawn - 1) / size
