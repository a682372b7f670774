"""What each layer sees, and what the network's output makes of what it gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..moment import Moment
from .inference import Batch, Difference, call, evaluating, outputs, tensors
from .norm import Seen
from .survey import Layer

ALIKE = 1e-2  # what rounding may change, in narrow floats and random draws too
ENOUGH = 3  # patches for each of a moment's rows
WIDE = 5000  # inputs of one output: from there on work with a moment takes minutes
FEW = 2048  # patches for the marginals of a moment: each holds many values of every mode
WORK = 2**33  # multiply-accumulates of a moment for which more patches are taken than that


def divide(
    batches: Sequence[Batch], holdout: float, model: nn.Module | None = None
) -> tuple[list[Batch], list[Batch]]:
    """Part the calibration in what is fitted on and what is judged on.

    A single batch is parted along its first axis, where `model` gives the same for the parts. Where
    nothing can be parted, both are the same.
    """
    batches = list(batches)
    if len(batches) == 1:
        pieces = _rows(batches[0])
        if model is None or len(pieces) == 1 or _alike(model, batches[0], pieces):
            batches = pieces
    held = round(len(batches) * holdout) or 1
    if len(batches) == 1:
        return batches, batches
    step = len(batches) / held  # spread over the whole, which may be sorted
    judged = {int((index + 0.5) * step) for index in range(held)}
    fitted = [batch for index, batch in enumerate(batches) if index not in judged]
    return fitted, [batches[index] for index in sorted(judged)]


def _rows(batch: Batch) -> list[Batch]:
    """Part one batch of tensors, arguments or keywords, in up to eight.

    What is no tensor goes with each part.
    """
    if isinstance(batch, Tensor):
        return [part for (part,) in _rows((batch,))]
    if not isinstance(batch, Mapping | tuple | list):
        return [batch]
    names = list(batch) if isinstance(batch, Mapping) else []
    values = list(batch.values() if isinstance(batch, Mapping) else batch)
    sizes = {len(v) if v.dim() else 0 for v in values if isinstance(v, Tensor)}
    if len(sizes) != 1 or max(sizes) < 2:
        return [batch]
    count = min(8, *sizes)
    apart = [v.tensor_split(count) if isinstance(v, Tensor) else (v,) * count for v in values]
    rows = zip(*apart, strict=True)
    return [dict(zip(names, row, strict=True)) if names else row for row in rows]


def _alike(model: nn.Module, whole: Batch, pieces: Sequence[Batch]) -> bool:
    """Whether the model gives for the pieces, together, what it gives for the whole."""
    (wanted,) = outputs(model, [whole])
    try:
        found = outputs(model, pieces)
        joined = [torch.cat(parts) for parts in zip(*found, strict=True)]
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    difference = Difference()
    difference.add(wanted, joined)
    return difference.relative < ALIKE


def groups_within(layers: Sequence[Layer], memory: int) -> Iterator[list[Layer]]:
    """Part layers, in order, so that the moments of each part take at most `memory` bytes."""
    part: list[Layer] = []
    taken = 0
    for layer in layers:
        size = 0 if is_wide(layer, memory) else moment_bytes(layer)
        if part and taken + size > memory:
            yield part
            part, taken = [], 0
        part.append(layer)
        taken += size
    if part:
        yield part


def moment_bytes(layer: Layer) -> int:
    """What the moment of a layer's patches takes, in float64."""
    config = layer.config
    return 8 * config.groups * prod(config.shape[1:]) ** 2


def is_wide(layer: Layer, memory: int) -> bool:
    """Whether a layer has too many inputs, or takes too much memory, for its whole moment."""
    return prod(layer.config.shape[1:]) > WIDE or moment_bytes(layer) > memory


def share(layer: Layer, batches: int, wanted: int | None = None) -> float:
    """The fraction of a layer's patches that its moment needs, or that are so many."""
    config, patches = layer.config, 0
    for shape in layer.shapes:
        images, size = layer.positions(shape)
        patches += images * prod(config.geometry.output_size(size))
    rows = prod(config.shape[1:])
    wanted = wanted or max(ENOUGH * rows, WORK // rows**2)
    return min(1.0, wanted / max(1, patches * batches))


@contextmanager
def hooked(handles: list[Any]) -> Iterator[None]:
    """Remove hooks in the end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def measure(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Iterable[Batch],
    count: int,
    memory: int,
    seed: int,
) -> dict[str, Seen]:
    """The second moments of each layer's inputs over `count` batches.

    From so many patches as each needs, drawn at random. A layer that is too wide for its moment has
    the marginals instead, and one where even those would take more than `memory` bytes, nothing.
    """
    gathered: dict[str, Moment | Marginals | None] = {}
    handles = []
    for layer in layers:
        module = model.get_submodule(layer.name)
        moment: Moment | Marginals
        if not is_wide(layer, memory):
            moment, fraction = Moment(module), share(layer, count)
        elif 8 * layer.config.groups * layer.config.shape[1] ** 2 <= memory:
            moment, fraction = Marginals(module), share(layer, count, FEW)
        else:
            gathered[layer.name] = None
            continue
        gathered[layer.name] = moment
        generator = torch.Generator().manual_seed(seed)
        handles.append(
            module.register_forward_pre_hook(_updating(moment, layer, fraction, generator))
        )
    with hooked(handles), evaluating(model):
        for batch in batches:
            call(model, batch)
    return {name: _seen(moment) for name, moment in gathered.items()}


def _updating(
    moment: Moment | Marginals, layer: Layer, fraction: float, generator: torch.Generator
) -> Any:
    def hook(_: nn.Module, given: Any) -> None:
        moment.update(batched(given[0], layer.config.order), fraction, generator)

    return hook


def _seen(moment: Moment | Marginals | None) -> Seen:
    if isinstance(moment, Marginals):
        return Seen(marginals=tuple(moment.sums))
    if moment is None or not moment.patches:
        return Seen()
    return Seen(whole=moment.matrix, count=moment.patches)


class Marginals:
    """The second moments of a convolution's input channels, and of each spatial mode's taps."""

    def __init__(self, conv: nn.Module) -> None:
        self.moment = Moment(conv)
        self.sums: list[Tensor] = []

    @torch.no_grad()
    def update(self, x: Tensor, share: float, generator: torch.Generator) -> None:
        """Add a share of the patches of a batch, of some of its images where they are many."""
        config = self.moment.config
        if share < 0.5 and len(x) >= 8:
            images = torch.rand(len(x), generator=generator) < 2 * share
            x, share = x[images.to(x.device)], 0.5
        for patches in self.moment.patches_of(x):
            drawn = torch.rand(patches.shape[2], generator=generator) < share
            some = patches[:, :, drawn.to(patches.device)]
            apart = some.reshape(config.groups, *config.shape[1:], -1)
            rows = [apart.movedim(axis, 1).flatten(2) for axis in range(1, apart.dim() - 1)]
            added = [(one @ one.mT).double() for one in rows]
            pairs = zip(self.sums or map(torch.zeros_like, added), added, strict=True)
            self.sums = [one + more for one, more in pairs]


def batched(x: Tensor, order: int) -> Tensor:
    """An input with its batch axis, of size 1 where it had none."""
    return x.unsqueeze(0) if order and x.dim() == order + 1 else x


def importances(
    model: nn.Module, layers: Sequence[Layer], batches: Sequence[Batch], seed: int
) -> dict[str, Tensor]:
    """How much the network's output changes with each layer's, to first order.

    For each layer the second moment `(groups, out, out)` of the gradients at its output of random
    projections of the network's, which is the expectation of `Jᵀ J` (Hutchinson 1990; the output
    side of K-FAC, Martens and Grosse 2015, arXiv 1503.05671). A layer that no gradient reaches has
    none.
    """
    found: dict[str, Tensor] = {}
    probes: list[tuple[Layer, Tensor]] = []
    handles = []

    def probe(layer: Layer) -> Any:
        def hook(_: nn.Module, given: Any, output: Tensor) -> Tensor:
            zero = torch.zeros_like(output, requires_grad=True)
            probes.append((layer, zero))
            return output + zero

        return hook

    for layer in layers:
        handles.append(model.get_submodule(layer.name).register_forward_hook(probe(layer)))
    asked = {p: p.requires_grad for p in model.parameters()}
    generator = torch.Generator().manual_seed(seed)
    try:
        model.requires_grad_(False)
        with hooked(handles), evaluating(model), torch.enable_grad():
            for batch in batches:
                probes.clear()
                given = [y for y in tensors(call(model, batch)) if y.requires_grad]
                reached = list(probes)  # a step that is run again for its gradient adds more
                if not given:
                    return {}
                ends = [torch.randn(y.shape, generator=generator).to(y) for y in given]
                ends = [
                    end / y.detach().nan_to_num(0, 0, 0).norm().clamp_min(1e-12)
                    for end, y in zip(ends, given, strict=True)
                ]
                zeros = [zero for _, zero in reached]
                try:
                    gradients = torch.autograd.grad(given, zeros, ends, allow_unused=True)
                except RuntimeError:  # a step of the network has no derivative
                    return {}
                for (layer, _), gradient in zip(reached, gradients, strict=True):
                    if gradient is not None:
                        _add(found, layer, gradient)
    finally:
        for parameter, wanted in asked.items():
            parameter.requires_grad_(wanted)
    return {name: total for name, total in found.items() if bool(torch.isfinite(total).all())}


def _add(found: dict[str, Tensor], layer: Layer, gradient: Tensor) -> None:
    order, groups = layer.config.order, layer.config.groups
    rows = batched(gradient, order).movedim(-order - 1, 0).flatten(1).float()
    rows = rows.reshape(groups, -1, rows.shape[1])
    added = (rows @ rows.mT).double()
    found[layer.name] = found[layer.name] + added if layer.name in found else added
