"""Closed gates leave, and the factors are as much smaller."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..arguments import check_number
from ..layer import FactorizedKernel, Forward, JointConv, exchange
from ..network import KernelNetwork, KernelSum
from ..solve import rounded
from .attached import attached, kernels_of, original
from .lasso import BondGates, gates, kept

T = TypeVar("T", bound=nn.Module)


@torch.no_grad()
def prune_ranks(module: T, threshold: float | None = None) -> T:
    """Make the factors in `module` smaller by the indices of closed gates, and fold the others.

    The output is what it was with those gates at zero: identical with the `threshold` of
    `tensor_lasso`, which is the default. In place: the layers have new, smaller parameters, plans
    for them, and no gates; make the optimizer anew. A bond keeps its largest gate. Returns
    `module`. Raises `ValueError` where no kernel has gates, or `threshold` is below 0, and
    `TypeError` for what is no module. The gates are those of `tensor_lasso`; Tibshirani 1996,
    doi:10.1111/j.2517-6161.1996.tb02080.x.

    >>> layer = FactorizedConv(8, 8, 3, order=2, rank=(6, 4), factorization="tucker").eval()
    >>> lasso = tensor_lasso(layer)
    >>> with torch.no_grad():
    ...     _ = next(p for p in layer.parameters() if p.shape == (6,))[2:].zero_()
    >>> x = torch.randn(1, 8, 12, 12)
    >>> before = layer(x)
    >>> prune_ranks(layer).rank, relative_error(before, layer(x)) < 1e-6
    ((2, 4), True)
    """
    if threshold is not None:
        check_number("threshold", threshold)
        if not threshold >= 0:
            raise ValueError(f"threshold={threshold!r} must be at least 0")
    gated = [kernel for kernel in kernels_of(module) if gates(kernel)]
    if not gated:
        raise ValueError("module has no gates on its bonds: call tensor_lasso and train first")
    smaller = {kernel: _pruned(kernel, threshold) for kernel in gated}
    for owner in list(module.modules()):
        kernel = owner._modules.get("weight")
        if kernel in smaller:
            _replace(owner, smaller[kernel])
    return module


def _replace(owner: nn.Module, kernel: FactorizedKernel) -> None:
    if isinstance(owner, Forward | JointConv):
        exchange(owner, kernel)
    else:
        owner.weight = kernel  # of a layer that reads its factors anew each time


def _pruned(kernel: FactorizedKernel, threshold: float | None) -> FactorizedKernel:
    factors = [original(kernel, index).detach() for index in range(len(kernel.network.factors))]
    network, sizes = kernel.network, dict(kernel.network.sizes)
    for index, module in attached(kernel, BondGates):
        most = module.threshold if threshold is None else threshold
        for (bond, axis), gate in zip(module.axes.items(), module.gates, strict=True):
            open_, shape = kept(gate, most), (-1, *(1,) * (factors[index].dim() - axis - 1))
            factors[index] = factors[index] * (gate * open_).reshape(shape)
            chosen = open_.nonzero().flatten()
            sizes[bond] = len(chosen)
            factors = [
                one.index_select(modes.index(bond), chosen) if bond in modes else one
                for one, modes in zip(factors, network.factors, strict=True)
            ]
    network, factors = _as_the_format(kernel, _sized(network, sizes), factors)
    made = type(kernel)(network, factors, kernel.choice).train(kernel.training)
    return made.requires_grad_(any(one.requires_grad for one in kernel.factors))


def _sized(network: KernelNetwork, sizes: dict[str, int]) -> KernelNetwork:
    """A network with other sizes of its bonds."""
    if not isinstance(network, KernelSum):
        return replace(network, sizes=sizes)
    terms = []
    for place, term in enumerate(network.terms):
        mine = {bond: sizes[f"{place}.{bond}"] for bond in term.bonds}
        terms.append(replace(term, sizes={**term.sizes, **mine}))
    return KernelSum.of(terms)


def _as_the_format(kernel: FactorizedKernel, network: KernelNetwork, factors: list[Tensor]) -> Any:
    """As the format makes it of these ranks: a bond beside a smaller one may have to follow."""
    ranks = tuple(network.sizes[bond] for bond in network.bonds)
    plugin = kernel.choice.plugin
    wanted = plugin.network(kernel.shape, ranks, kernel.groups)
    if wanted.shapes == network.shapes:
        return wanted, factors
    return rounded(plugin, network, factors, ranks)
