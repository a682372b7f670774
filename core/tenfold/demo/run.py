"""Replace the network's convolutions by each installed pair, and measure what comes of it."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ..catalogue import PluginError
from ..conv import FactorizedConv
from ..registry import factorizations, implementations
from ..replace import replace_convolutions, substitute
from ..rerun import rerun
from .data import accuracy, load_cnn, load_images

BATCH, ROUNDS = 64, 7
SMALL = 0.01  # a convolution with less than this of the parameters stays dense


@dataclass(frozen=True)
class LeftOut:
    """A pair that is installed and cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Measured:
    """One network: what it is, how good, how large and how fast.

    `macs` are those of its convolutions for one image, `milliseconds` those of a batch of 64, and
    `error` the relative error of all kernels together; `dense_milliseconds` were measured in turn
    with `milliseconds`.
    """

    name: str
    accuracy: float
    parameters: int
    macs: int | None  # None where the implementation runs code of its own
    milliseconds: float
    dense_milliseconds: float
    error: float


def check_rank(rank: Any) -> None:
    """Refuse a rank before any work, with the `ValueError` or `TypeError` of `from_conv`."""
    FactorizedConv.from_conv(nn.Conv2d(4, 4, 3), rank=rank, factorization="tucker")


def run_demo(rank: Any) -> Iterator[Measured | LeftOut | str]:
    """Measure the dense network, then each pair; what happens next is yielded as a string."""
    yield "the dense network"
    model = load_cnn()
    images, labels = load_images()
    images = images.contiguous(memory_format=torch.channels_last)
    large = large_convolutions(model)
    sizes = input_sizes(model, images[:1])
    yield measure("dense", model, model, images, labels, dense_layers(model, large), sizes)
    for factorization in factorizations.names():
        decomposed: dict[str, FactorizedConv] = {}
        for implementation in implementations.names():
            pair = f"{factorization} {implementation}"
            yield pair
            try:
                if decomposed:
                    layers = {n: rerun(layer, implementation) for n, layer in decomposed.items()}
                else:
                    layers = replace_convolutions(
                        model,
                        large,
                        rank=rank,
                        factorization=factorization,
                        implementation=implementation,
                    )
            except PluginError as fault:
                yield LeftOut(pair, str(fault))
                continue
            except ValueError as refusal:
                if "cannot run" not in str(refusal):
                    raise
                continue
            decomposed = layers
            changed = substitute(copy.deepcopy(model), layers)
            yield measure(pair, changed, model, images, labels, layers, sizes)


def measure(
    name: str,
    model: nn.Module,
    dense: nn.Module,
    images: Tensor,
    labels: Tensor,
    layers: dict[str, FactorizedConv],
    sizes: dict[str, tuple[int, ...]],
) -> Measured:
    """Measure `model`, and `dense` in turn with it."""
    gap = norm = 0.0
    for place, layer in layers.items():
        kernel: Tensor = dense.get_submodule(place).get_parameter("weight").detach()
        gap += float((kernel - layer.weight.to_tensor()).detach().square().sum())
        norm += float(kernel.square().sum())
    mine, theirs = in_turn(model, dense, images[:BATCH])
    return Measured(
        name=name,
        accuracy=accuracy(model, images, labels),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=count_macs(layers, sizes),
        milliseconds=mine,
        dense_milliseconds=theirs,
        error=(gap / norm) ** 0.5,
    )


def count_macs(layers: dict[str, FactorizedConv], sizes: dict[str, tuple[int, ...]]) -> int | None:
    """What the layers multiply for one image; None where one does not count."""
    try:
        return sum(layer.macs(sizes[place]) for place, layer in layers.items())
    except ValueError:
        return None


def large_convolutions(model: nn.Module) -> list[str]:
    """The names of the convolutions that hold a worthwhile part of the parameters.

    The first one, of a single input channel, does not: half of its 288 parameters are next to
    nothing, and without them the network sees three patterns where it saw 32.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.weight.numel() >= SMALL * total
    ]


def dense_layers(model: nn.Module, names: list[str]) -> dict[str, FactorizedConv]:
    """The convolutions as full-rank layers that run dense: what they cost is what dense costs."""
    return replace_convolutions(
        model, names, rank=10**9, factorization="tucker", implementation="reconstructed"
    )


def input_sizes(model: nn.Module, images: Tensor) -> dict[str, tuple[int, ...]]:
    """The spatial size of what each convolution sees."""
    sizes: dict[str, tuple[int, ...]] = {}
    handles = [
        module.register_forward_pre_hook(
            lambda _, inputs, name=name: sizes.update({name: tuple(inputs[0].shape[2:])})
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return sizes


@torch.no_grad()
def in_turn(first: nn.Module, second: nn.Module, x: Tensor) -> tuple[float, float]:
    """The median milliseconds of each, run one after the other."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS + 2):
        for model, found in zip((first, second), times, strict=True):
            started = time.perf_counter()
            model(x)
            if turn >= 2:
                found.append((time.perf_counter() - started) * 1000)
    return median(times[0]), median(times[1])
