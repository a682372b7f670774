"""Replace the network's convolutions by each installed pair, and measure what comes of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..layer import FactorizedConv, rerun
from ..model import replace_convolutions, substitute
from ..plugin import PluginError, factorizations, implementations
from ..tuning import in_turn
from .data import accuracy, load_cnn, load_images

BATCH, SECONDS = 32, 0.15  # of one run, and at least for the runs of one pair
AGREE = 1e-3  # of the largest output: what rounding may change
SMALL = 0.01  # a convolution with less than this of the parameters stays dense


@dataclass(frozen=True)
class LeftOut:
    """A pair that is installed and cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Measured:
    """One network: what it is, how good, how large and how fast.

    `macs` are those of its convolutions for one image, `milliseconds` those of a batch of 32, and
    `error` the relative error of all kernels together; `dense_milliseconds` were measured in turn
    with `milliseconds`. `outputs` are those for that batch.
    """

    name: str
    accuracy: float
    parameters: int
    macs: int | None  # None where the implementation runs code of its own
    milliseconds: float
    dense_milliseconds: float
    error: float
    outputs: Tensor


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
        known: Measured | None = None
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
            known = measure(pair, changed, model, images, labels, layers, sizes, known)
            yield known


def measure(
    name: str,
    model: nn.Module,
    dense: nn.Module,
    images: Tensor,
    labels: Tensor,
    layers: dict[str, FactorizedConv],
    sizes: dict[str, tuple[int, ...]],
    known: Measured | None = None,
) -> Measured:
    """Measure `model`, and `dense` in turn with it.

    The accuracy of `known`, the same kernels run another way, is taken where the outputs are its.
    """
    gap = norm = 0.0
    for place, layer in layers.items():
        kernel: Tensor = dense.get_submodule(place).get_parameter("weight").detach()
        gap += float((kernel - layer.weight.to_tensor()).detach().square().sum())
        norm += float(kernel.square().sum())
    batch = images[:BATCH]
    with torch.no_grad():
        runs = [partial(one, batch) for one in (model, dense)]
        mine, theirs = in_turn(runs, batch.device, SECONDS)
        outputs: Tensor = model(batch)
    if known is not None and agree(outputs, known.outputs):
        score = known.accuracy
    else:
        score = accuracy(model, images, labels)
    return Measured(
        name=name,
        accuracy=score,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=count_macs(layers, sizes),
        milliseconds=mine.milliseconds,
        dense_milliseconds=theirs.milliseconds,
        error=(gap / norm) ** 0.5,
        outputs=outputs,
    )


def agree(outputs: Tensor, others: Tensor) -> bool:
    """Whether two networks' outputs differ by no more than rounding."""
    return float((outputs - others).abs().max()) <= AGREE * float(others.abs().max())


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
