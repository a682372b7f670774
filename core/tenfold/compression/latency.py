"""Milliseconds of layers and networks, measured in turn with what they are compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor, nn

from ..convolve import channels_last, is_channels_last
from .candidates import build
from .inference import Batch, call, evaluating
from .survey import Layer
from .table import LayerTable

ROUNDS = 5
SECONDS = 0.002  # a shorter run is repeated until it takes as long


def time_layer(model: nn.Module, layer: Layer, table: LayerTable) -> None:
    """Give every candidate of a layer the milliseconds of all its calls.

    Each round runs dense and all others once, so that what disturbs one disturbs all; a candidate
    gets the median of its ratios to dense.
    """
    conv = model.get_submodule(layer.name)
    modules = [conv] + [
        build(conv, layer, one, table.factors[one.key]) for one in table.candidates[1:]
    ]
    weight = conv.get_parameter("weight")
    inputs = [_input(shape, weight) for shape in layer.shapes]
    runs = [_runner(module, inputs) for module in modules]
    with evaluating(nn.ModuleList(modules)):
        rounds = in_turn(runs)
    ratios = [median(found[i] / found[0] for found in rounds) for i in range(len(runs))]
    whole = median(found[0] for found in rounds)
    for index, ratio in enumerate(ratios):
        one = table.candidates[index]
        table.candidates[index] = one.model_copy(update={"milliseconds": whole * ratio})


def time_networks(models: Sequence[nn.Module], batch: Batch) -> list[float]:
    """Milliseconds of each network on a batch, run in turn."""

    def runner(model: nn.Module) -> Callable[[], object]:
        return lambda: call(model, batch)

    with evaluating(nn.ModuleList(models)):
        rounds = in_turn([runner(model) for model in models])
    return [median(found[i] for found in rounds) for i in range(len(models))]


def in_turn(runs: Sequence[Callable[[], object]]) -> list[list[float]]:
    """Milliseconds of each run in each of some rounds, after one that does not count."""
    repeats = []
    for run in runs:
        run()
        started = time.perf_counter()
        run()
        repeats.append(max(1, round(SECONDS / max(time.perf_counter() - started, 1e-7))))
    rounds = []
    for _ in range(ROUNDS):
        found = []
        for run, times in zip(runs, repeats, strict=True):
            started = time.perf_counter()
            for _ in range(times):
                run()
            _wait()
            found.append((time.perf_counter() - started) * 1000 / times)
        rounds.append(found)
    return rounds


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _runner(module: nn.Module, inputs: Sequence[Tensor]) -> Callable[[], object]:
    return lambda: [module(x) for x in inputs]


def _input(shape: Sequence[int], weight: Tensor) -> Tensor:
    x = torch.randn(tuple(shape), device=weight.device).to(weight.dtype)
    return channels_last(x) if is_channels_last(weight) and x.dim() > 3 else x
