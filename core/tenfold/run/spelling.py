"""Stages as PyTorch's own modules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..network import Geometry
from .stage import Permutation, Stage

PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def modules_of(
    stages: Sequence[Stage], permutation: Permutation | None, factors: Sequence[Tensor]
) -> OrderedDict[str, nn.Module]:
    """The stages, and the permutations before and behind them, as modules without a bias.

    Up to order 3, where PyTorch's convolutions end.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for index, stage in enumerate(stages):
        if stage.permutation is not None:
            modules[f"permute{index}"] = _permute(stage.permutation, stage.geometry.order, factors)
        weight = stage.weight(factors)
        groups = stage.groups
        if stage.after > 1:  # of a linear layer: the same for each column
            weight = block_diagonal(weight, groups).contiguous()
            weight = torch.kron(weight, torch.eye(stage.after).to(weight))
            groups = 1
        weight = weight.repeat(stage.passed, *(1,) * (weight.dim() - 1))
        modules[f"conv{index}"] = _module(weight, groups * stage.passed, stage.geometry)
    if permutation is not None:
        modules["permute"] = _permute(permutation, stages[-1].geometry.order, factors)
    return modules


def _module(weight: Tensor, groups: int, geometry: Geometry) -> nn.Module:
    made: dict[str, Any] = {"bias": False, "device": weight.device, "dtype": weight.dtype}
    if geometry.order == 0:
        dense = block_diagonal(weight, groups)
        return _filled(nn.Linear(dense.shape[1], dense.shape[0], **made), dense)
    outer, inner = weight.shape[0], groups * weight.shape[1]
    channels = (outer, inner) if geometry.transposed else (inner, outer)
    options: dict[str, Any] = {
        "stride": geometry.stride,
        "padding": geometry.padding,
        "dilation": geometry.dilation,
        "groups": groups,
    }
    if geometry.transposed:
        options["output_padding"] = geometry.output_padding
    kinds = TRANSPOSED if geometry.transposed else PLAIN
    make: Any = kinds[geometry.order - 1]
    return _filled(make(*channels, geometry.kernel_size, **options, **made), weight)


def _filled(module: Any, weight: Tensor) -> nn.Module:
    module.weight = nn.Parameter(weight.detach().clone())
    filled: nn.Module = module
    return filled


def _permute(permutation: Permutation, order: int, factors: Sequence[Tensor]) -> nn.Module:
    """A permutation of the channels as a pointwise convolution, the one module that can be any."""
    total = prod(permutation.sizes)
    channels = torch.arange(total).reshape(permutation.sizes).permute(permutation.order).flatten()
    weight = torch.eye(total)[channels].reshape(total, total, *(1,) * order).to(factors[0])
    ones, zeros = (1,) * order, (0,) * order
    return _module(weight, 1, Geometry(ones, ones, zeros, ones, zeros))


def block_diagonal(kernel: Tensor, groups: int) -> Tensor:
    """The weight of a linear layer, of one in groups."""
    return torch.block_diag(*kernel.chunk(groups)) if groups > 1 else kernel
