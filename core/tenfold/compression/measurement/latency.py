"""Milliseconds of layers and networks, measured in turn with what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from ...layer import FactorizedConv, kernel_of
from ...run import channels_last, is_channels_last
from ...tuning import Timing, in_turn, worker
from ..candidates import LayerTable, build
from ..running import Batch, as_users_run, counted, evaluating, placed
from ..survey import Layer

EAGER = "eager"  # the runtime that PyTorch itself is


def time_layer(model: nn.Module, layer: Layer, table: LayerTable, runtime: str = EAGER) -> None:
    """Give every candidate of a layer the milliseconds of all its calls.

    All are run in turn, so that what disturbs one disturbs all.
    """
    conv = model.get_submodule(layer.name)
    modules = [conv] + [
        build(conv, layer, one, table.factors[one.key]) for one in table.candidates[1:]
    ]
    for index, one in enumerate(time_modules(modules, layer, runtime)):
        update = {"milliseconds": one.milliseconds}
        table.candidates[index] = table.candidates[index].model_copy(update=update)


def settle(model: nn.Module, layers: Sequence[Layer], runtime: str) -> None:
    """Let layers that choose how they run choose in a runtime; in PyTorch they do so themselves."""
    for layer in layers:
        settle_one(model.get_submodule(layer.name), layer, runtime)


def settle_one(module: Any, layer: Layer, runtime: str) -> None:
    if runtime != EAGER and isinstance(module, FactorizedConv) and module.measures:
        module.tune(_input(layer.shapes[0], module.weight.factors[0]), runtime=runtime)


def time_modules(modules: Sequence[nn.Module], layer: Layer, runtime: str = EAGER) -> list[Timing]:
    """What the calls of a layer take together, with each of some modules in its place.

    The first is the layer itself. Raises `ValueError` for what the runtime cannot run.
    """
    weight = kernel_of(modules[0])
    inputs = [_input(shape, weight) for shape in layer.shapes]
    for module in modules:
        settle_one(module, layer, runtime)
    with evaluating(nn.ModuleList(modules)):
        runs = [_runner(module, inputs, runtime) for module in modules]
        return in_turn(runs, weight.device, hopeless=inf, by=worker(runtime))


def time_networks(models: Sequence[nn.Module], batch: Batch, runtime: str = EAGER) -> list[float]:
    """Milliseconds of each network on a batch, run in turn.

    As the user runs them: `nn.TransformerEncoderLayer` may do its steps at once. Raises
    `ValueError` for what the runtime cannot run.
    """
    device = next((p.device for p in models[0].parameters()), torch.device("cpu"))
    with counted(), as_users_run(), evaluating(nn.ModuleList(models)):  # no runs over calibration
        runs = [placed(runtime, model, batch) for model in models]
        found = in_turn(runs, device, hopeless=inf, by=worker(runtime))
    return [one.milliseconds for one in found]


def _runner(module: nn.Module, inputs: Sequence[Tensor], runtime: str) -> Callable[[], object]:
    if runtime == EAGER:
        return lambda: [module(x) for x in inputs]
    runs = [placed(runtime, module, x) for x in inputs]
    return lambda: [run() for run in runs]


def _input(shape: Sequence[int], weight: Tensor) -> Tensor:
    x = torch.randn(tuple(shape), device=weight.device).to(weight.dtype)
    return channels_last(x) if is_channels_last(weight) and x.dim() > 3 else x
