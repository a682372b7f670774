"""Measure each pair, at each rank, on each layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, prod
from typing import Any

import torch
from torch import Tensor, nn

from ..compression.running import placed
from ..layer import FactorizedConv, read_config, read_kernel, rerun
from ..model import Seen
from ..run import LAID_OUT, channels_last, is_channels_last
from ..solve import relative_error
from ..tuning import Timing, in_turn, worker
from .results import Row


@dataclass(frozen=True)
class Task:
    """A layer to measure: its dense convolution, its input, and whether its kernel counts."""

    name: str
    conv: nn.Module
    seen: Seen
    trained: bool  # decompose the kernel, and tell the error


@dataclass(frozen=True)
class Requests:
    """The pairs and the ranks to measure, and where they run."""

    factorizations: Sequence[str]
    implementations: Sequence[str]
    ranks: Sequence[Any]
    runtime: str = "eager"


@torch.no_grad()
def measure(task: Task, requests: Requests) -> Iterator[Row | str]:
    """Measure one layer; what is being measured is told as a string before each row's work.

    Pairs that the implementation refuses are left out.
    """
    yield f"{task.name} dense"
    conv, x = in_best_format(task)
    kernel = read_kernel(conv) if task.trained else None
    macs = dense_macs(conv, x)
    parameters = sum(one.numel() for one in conv.parameters())
    taken = _in_turn([conv], x, requests.runtime)[0].milliseconds
    yield Row(
        layer=task.name,
        factorization=None,
        implementation=None,
        asked=None,
        rank=None,
        parameters=parameters,
        macs=macs,
        memory_format=format_name(x),
        milliseconds=taken,
        dense_milliseconds=taken,
        error=None if kernel is None else 0.0,
    )
    for factorization in requests.factorizations:
        for rank in requests.ranks:
            yield f"{task.name} {factorization} {rank}"
            layers = _layers(task, conv, x, factorization, rank, requests)
            if layers:
                dense, *timings = _in_turn([conv, *layers], x, requests.runtime)
                for layer, timing in zip(layers, timings, strict=True):
                    yield _row(task, layer, x, str(rank), timing.milliseconds, dense.milliseconds)


def _in_turn(modules: Sequence[nn.Module], x: Tensor, runtime: str) -> list[Timing]:
    """Each of them run on an input: as it is called here, or in another runtime."""
    if runtime == "eager":
        return in_turn([partial(one, x) for one in modules], x.device, hopeless=inf)
    runs = [placed(runtime, one, x) for one in modules]
    return in_turn(runs, x.device, hopeless=inf, by=worker(runtime))


def in_best_format(task: Task) -> tuple[nn.Module, Tensor]:
    """The dense convolution in eval mode, with an input in the memory format that suits it best."""
    conv, x = task.conv.eval(), task.seen.draw()
    if x.dim() - 2 not in LAID_OUT:
        return conv, x
    inputs = [x.contiguous(), channels_last(x)]
    timings = in_turn([partial(conv, one) for one in inputs], x.device, hopeless=inf)
    best = min(range(2), key=lambda i: timings[i].milliseconds)
    return conv, inputs[best]


def format_name(x: Tensor) -> str:
    return "channels_last" if is_channels_last(x) else "contiguous"


def dense_macs(conv: Any, x: Tensor) -> int:
    """Multiply-accumulates of the dense convolution for one run on `x`."""
    config = read_config(conv)
    places = x.shape[2:] if config.transposed else conv(x[:1]).shape[2:]
    return int(len(x) * conv.weight.numel() * prod(places))


def _layers(
    task: Task, conv: Any, x: Tensor, factorization: str, rank: Any, requests: Requests
) -> list[FactorizedConv]:
    """One kernel, run by each implementation that does not refuse it."""
    layers: list[FactorizedConv] = []
    for implementation in requests.implementations:
        try:
            if layers:
                layers.append(rerun(layers[0], implementation))
            else:
                layers.append(
                    FactorizedConv.from_conv(
                        conv,
                        rank=rank,
                        factorization=factorization,
                        implementation=implementation,
                        decompose_weights=task.trained,
                    ).eval()
                )
        except ValueError as refusal:
            if "cannot run" not in str(refusal):
                raise
            continue
        if layers[-1].measures:
            layers[-1].tune(x, runtime=requests.runtime)
    return layers


def _row(
    task: Task, layer: FactorizedConv, x: Tensor, asked: str, taken: float, dense: float
) -> Row:
    try:
        macs: int | None = len(x) * layer.macs(x.shape[2:])
    except ValueError:  # code of its own
        macs = None
    error = None
    if task.trained:
        error = relative_error(read_kernel(task.conv), layer.weight.to_tensor())
    return Row(
        layer=task.name,
        factorization=layer.factorization,
        implementation=layer.implementation,
        asked=asked,
        rank=layer.rank,
        parameters=sum(one.numel() for one in layer.parameters()),
        macs=macs,
        memory_format=format_name(x),
        milliseconds=taken,
        dense_milliseconds=dense,
        error=error,
    )
