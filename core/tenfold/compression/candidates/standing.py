"""Where a factorized layer can stand: tried out before any work is spent on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import nn

from ...plugin import factorizations, implementations
from ...run import make_plan
from ..request import CompressionConfig
from ..running import Batch, call, evaluating, hooked
from ..survey import Layer
from .building import build, put
from .candidate import Candidate
from .fitting import rank_of

BYPASSED = "the model calls it by a reference that is none of its submodules"


def reject(
    model: nn.Module, layers: Sequence[Layer], example: Batch, config: CompressionConfig
) -> None:
    """Give a reason to each layer in whose place a factorized one does not run.

    As where the network reads the layer's weight itself, or keeps the layer in a list of its own.
    The network is run with all of them replaced by ones of rank 1, and if that fails with each.
    """
    made = {layer.name: one for layer in layers if (one := _stand_in(model, layer, config))}
    replaced = [layer for layer in layers if layer.name in made]
    if not any(_tried(model, replaced, made, example)):
        return
    for layer in replaced:
        (layer.reason,) = _tried(model, [layer], made, example)


def _tried(
    model: nn.Module, layers: Sequence[Layer], made: dict[str, Any], example: Batch
) -> list[str | None]:
    """Run the model with some layers replaced: what is wrong with each."""
    reached: set[str] = set()
    originals = {layer.name: model.get_submodule(layer.name) for layer in layers}
    handles = [
        made[layer.name].register_forward_hook(lambda *_, name=layer.name: reached.add(name))
        for layer in layers
    ]
    try:
        for layer in layers:
            put(model, layer, made[layer.name])
        with hooked(handles), evaluating(model):
            call(model, example)
    except Exception as fault:
        reason = f"a factorized one does not run in its place ({type(fault).__name__}: {fault})"
        return [reason] * len(layers)
    finally:
        for layer in layers:
            put(model, layer, originals[layer.name])
    return [None if layer.name in reached else BYPASSED for layer in layers]


def _stand_in(model: nn.Module, layer: Layer, config: CompressionConfig) -> nn.Module | None:
    """A layer of rank 1 and random numbers; None where no format and implementation make one."""
    conv = model.get_submodule(layer.name)
    if layer.factorized:
        return None  # what takes its place is of its own kind
    weight = conv.get_parameter("weight")
    asked = layer.request
    formats = [asked["factorization"]] if "factorization" in asked else config.factorizations
    ways = [asked["implementation"]] if "implementation" in asked else config.implementations
    for format_, way in product(formats, ways):
        choice, runner = factorizations.choose(format_), implementations.choose(way)
        network = choice.plugin.network(layer.config.shape, 1, layer.config.groups)
        try:
            make_plan(choice, network, runner, layer.config.geometry)
        except ValueError:
            continue
        candidate = Candidate(
            factorization=choice.name,
            implementation=runner.name,
            rank=rank_of(network),
            parameters=network.numel,
            macs=0,
        )
        factors = [torch.randn(shape).to(weight) / network.numel**0.5 for shape in network.shapes]
        return build(conv, layer, candidate, factors)
    return None
