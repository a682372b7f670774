"""Gradients of a network's output, and what is looked at in the run that they take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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
    found, count = Importance(), 0
    generator = torch.Generator().manual_seed(seed)
    with _probed(model, layers, looking) as probes, evaluating(model), torch.enable_grad():
        for count, batch in enumerate(batches, 1):
            probes.clear()
            looking.begin()
            output = call(model, batch)
            looking.gave(output)
            seen = _gradients(tensors(output), probes, generator)
            if seen is None:
                looking.forget()
                return Importance()
            squares = [(one, found.add(one.layer, count - 1, its)) for one, its in seen]
            looking.see(count - 1, squares)
    return found.finished(memory, max(1, count))


Probes = list[tuple[Passing, Tensor]]  # calls of layers, and zeros that were added to their outputs


@contextmanager
def _probed(model: nn.Module, layers: Sequence[Layer], looking: Looking) -> Iterator[Probes]:
    """Zeros added to what layers give; the parameters ask for no gradients meanwhile."""
    probes: Probes = []

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
    try:
        model.requires_grad_(False)
        with hooked(handles):
            yield probes
    finally:
        for parameter, wanted in asked.items():
            parameter.requires_grad_(wanted)


def _gradients(
    outputs: Sequence[Tensor], probes: Probes, generator: torch.Generator
) -> Probes | None:
    """The gradient of a random projection of the outputs at each call so far; None without one."""
    given = [y for y in outputs if y.requires_grad]
    reached = list(probes)  # a step that is run again for its gradient adds more
    if not given:
        return None
    ends = [_signs(y, generator) for y in given]
    try:
        found = torch.autograd.grad(given, [zero for _, zero in reached], ends, allow_unused=True)
    except RuntimeError:  # a step of the network has no derivative
        return None
    pairs = zip(reached, found, strict=True)
    return [(one, zero.detach() if its is None else its) for (one, zero), its in pairs]


def _signs(output: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs, over the norm of the output."""
    drawn = torch.randint(2, output.shape, generator=generator).to(output)
    size: Tensor = output.detach().nan_to_num(0, 0, 0).norm().clamp_min(1e-12)
    return (2 * drawn - 1) / size
