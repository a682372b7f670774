"""The network's large convolutions in one format after another."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..compression.survey import Layer
from ..layer import FactorizedConv, rerun
from ..model import replace_convolutions, substitute
from ..plugin import PluginError, factorizations, implementations
from .measured import BATCH, SEED, LeftOut, Measured, Setting

SHOWN = ("channel_svd", "cp", "spatial_svd", "tt", "tucker")  # each decomposed in a second or two
SMALL = 0.01  # a convolution with less than this of the parameters stays dense


def check_rank(rank: Any) -> None:
    """Refuse a rank before any work, with the `ValueError` or `TypeError` of `from_conv`."""
    FactorizedConv.from_conv(nn.Conv2d(4, 4, 3), rank=rank, factorization="tucker")


def run_formats(setting: Setting, rank: Any, pairs: bool) -> Iterator[Measured | LeftOut | str]:
    """Measure a few formats as chains; where `pairs` are asked for, all of them, run every way.

    What comes next is yielded as a string.
    """
    ways = implementations.names() if pairs else ["factorized"]
    large = large_convolutions(setting)
    for name in factorizations.names() if pairs else SHOWN:
        decomposed: dict[str, FactorizedConv] = {}
        for way in ways:
            pair = f"{name} {way}" if pairs else name
            yield pair
            try:
                decomposed = _layers(setting, large, decomposed, rank, name, way)
            except PluginError as fault:
                yield LeftOut(pair, str(fault))
                continue
            except ValueError as refusal:
                if "cannot run" not in str(refusal):
                    raise
                continue
            yield _measured(setting, pair, large, decomposed)


def large_convolutions(setting: Setting) -> list[Layer]:
    """The convolutions that hold a worthwhile part of the parameters.

    The first one, of a single input channel, does not: half of its 288 parameters are next to
    nothing, and without them the network sees three patterns where it saw 32.
    """
    total = sum(parameter.numel() for parameter in setting.model.parameters())
    convolutions = [layer for layer in setting.layers if layer.kind == "Conv2d"]
    return [layer for layer in convolutions if layer.parameters >= SMALL * total]


def _layers(
    setting: Setting,
    large: list[Layer],
    decomposed: dict[str, FactorizedConv],
    rank: Any,
    factorization: str,
    implementation: str,
) -> dict[str, FactorizedConv]:
    """The large convolutions in a format, decomposed once and run another way each time."""
    if decomposed:
        return {name: rerun(layer, implementation) for name, layer in decomposed.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return replace_convolutions(
            setting.model,
            [layer.name for layer in large],
            rank=rank,
            factorization=factorization,
            implementation=implementation,
        )


def _measured(
    setting: Setting, name: str, large: list[Layer], layers: dict[str, FactorizedConv]
) -> Measured:
    model = substitute(copy.deepcopy(setting.model), layers)
    macs = _macs(setting, large, layers)
    chain = _chain(next(iter(layers.values())))
    _, found = setting.measure({name: (model, macs)}, chain)
    return found


def _macs(setting: Setting, large: list[Layer], layers: dict[str, FactorizedConv]) -> int | None:
    """Those of the whole network on the batch; None where a layer does not count."""
    found = setting.macs
    try:
        for one in large:
            found += BATCH * layers[one.name].macs(one.shapes[0][2:]) - one.macs
    except ValueError:
        return None
    return found


def _chain(layer: FactorizedConv) -> tuple[tuple[int, ...], ...]:
    """The kernel sizes of the convolutions that a layer is; none where it runs code of its own."""
    try:
        modules = layer.to_sequential().modules()
    except ValueError:
        return ()
    return tuple(one.kernel_size for one in modules if isinstance(one, nn.Conv2d))
