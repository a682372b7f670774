"""Ranks that move while a layer is trained, the optimizer's state with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..arguments import check_kind
from ..layer import FactorizedConv, FactorizedKernel, evened, exchange
from ..network import KernelNetwork, KernelSum
from ..solve import fit, structure
from .moments import carry, check_optimizer
from .structure import needs_values
from .tangent import Tangent, explained, spread


@torch.no_grad()
def set_rank(layer: FactorizedConv, rank: Any, optimizer: Optimizer | None = None) -> None:
    """Give a layer another rank, in its place: truncated, or grown.

    `rank` is any that `FactorizedConv.from_conv` takes, and gives the ranks of a new layer. Bonds
    that become smaller are truncated from the factors, as `FactorizedKernel.round` does it; terms
    of a sum are decomposed together. Bonds that become larger leave the kernel as it is: of the new
    slices one factor has zeros, the others numbers of their own size, so that all are trained from
    there (function-preserving growth, Chen et al. 2016, arXiv 1511.05641). The factors are new
    parameters; `optimizer` trains them in the place of the old. Its momentum and Adam's moments
    follow a truncation by projection (the least gradient of the kernel that explains them, through
    the chain rule of the new factors), and stay as they are for what grows. What else holds the old
    parameters (`DistributedDataParallel`, an average of weights, a compiled module) is to be made
    anew.

    Raises `ValueError` or `TypeError`, before anything is changed, for a bad argument, a rank that
    the layer's implementation cannot run, an optimizer whose state is not known, a layer on the
    meta device or one that is parametrized, and a format whose constants change with the rank.

    >>> layer = FactorizedConv(16, 32, 3, order=2, rank=(12, 8), factorization="tucker")
    >>> optimizer = torch.optim.Adam(layer.parameters())
    >>> set_rank(layer, (16, 10), optimizer), layer.rank
    (None, (16, 10))
    >>> set_rank(layer, 0.1, optimizer), layer.rank
    (None, (6, 3))
    """
    check_kind("layer", layer, FactorizedConv)
    kernel = layer.weight
    if kernel.factors[0].is_meta:
        raise ValueError("layer is on the meta device: it has no values to keep; make it anew")
    if any(isinstance(one, nn.utils.parametrize.ParametrizationList) for one in layer.modules()):
        raise ValueError("layer is parametrized: remove that first, then change its rank")
    old = [kernel.factors[index] for index in kernel.network.free]
    check_optimizer(optimizer, old)
    network = wanted(kernel, rank)
    if network == kernel.network:
        return
    grows = _grows(kernel.network, network)
    made = _grown(kernel, network) if grows else _truncated(kernel, network)
    trained = [kernel.factors[index].requires_grad for index in kernel.network.free]
    for place, index in enumerate(made.network.free):
        flag = trained[place] if len(trained) == len(made.network.free) else any(trained)
        made.factors[index].requires_grad_(flag)
    exchange(layer, made)
    new = [made.factors[index] for index in made.network.free]
    if grows:
        carry(optimizer, old, new, lambda _, square, kept: _padded(kept, new, square))
    else:
        before, after = tangent_of(kernel), tangent_of(made)
        carry(optimizer, old, new, lambda _, square, kept: _through(before, after, kept, square))


def wanted(kernel: FactorizedKernel, rank: Any) -> KernelNetwork:
    """The network that a request gives a kernel: as a new one, or by what its values need."""
    plugin = kernel.choice.plugin
    if needs_values(rank):
        return fit(plugin, kernel.to_tensor().detach(), rank, kernel.groups)[0]
    return structure(plugin, kernel.shape, rank, kernel.groups, None)


def tangent_of(kernel: FactorizedKernel) -> Tangent:
    """In which a kernel moves, with the accuracy that least squares need."""
    wide = torch.complex128 if kernel.dtype.is_complex else torch.float64
    return Tangent(kernel.network, [one.detach().to(wide) for one in kernel.factors])


def projected(tangent: Tangent, average: Tensor, square: bool) -> list[Tensor]:
    """What the factors keep of a kernel-shaped average of gradients, or of their squares."""
    return (tangent.squared() if square else tangent).down(average)


def _grows(old: KernelNetwork, new: KernelNetwork) -> bool:
    same = old.factors == new.factors
    return same and all(new.sizes[bond] >= old.sizes[bond] for bond in old.bonds)


def _truncated(kernel: FactorizedKernel, network: KernelNetwork) -> FactorizedKernel:
    """Rounded to the ranks that both have, then grown to the wanted.

    Decomposed where the factors are others, and of a sum, whose terms make up for each other.
    """
    old = kernel.network.sizes
    same = network.factors == kernel.network.factors
    ranks = tuple(
        min(network.sizes[b], old[b]) if same else network.sizes[b] for b in network.bonds
    )
    factors: Sequence[Tensor]
    if same and not isinstance(network, KernelSum):
        small = kernel.round(ranks)
        found, factors = small.network, list(small.factors)
    else:
        plugin = kernel.choice.plugin
        found, factors = fit(plugin, kernel.to_tensor(), ranks, network.groups)
    made = FactorizedKernel(found, evened(found, factors), kernel.choice)
    return made if found == network else _grown(made, network)


def _grown(kernel: FactorizedKernel, network: KernelNetwork) -> FactorizedKernel:
    """The same kernel with more slices: of each bond, one of its factors has zeros there."""
    old = kernel.network
    zeros = {bond: _owner(old, bond) for bond in old.bonds}
    factors = []
    for index, shape in enumerate(network.shapes):
        factor = kernel.factors[index].detach()
        scale = factor.abs().square().mean().sqrt()
        grown = torch.randn(shape, dtype=factor.dtype, device=factor.device) * scale
        for axis, mode in enumerate(old.factors[index]):
            if zeros.get(mode) == index:
                grown.narrow(axis, old.sizes[mode], shape[axis] - old.sizes[mode]).zero_()
        grown[tuple(slice(size) for size in factor.shape)] = factor
        factors.append(grown)
    made = FactorizedKernel(network, factors, kernel.choice)
    for index in network.constants:
        inside = tuple(slice(size) for size in old.shapes[index])
        if not torch.equal(made.factors[index][inside], kernel.factors[index]):
            raise ValueError(
                f"rank={made.rank}: constants of {kernel.factorization} change with the rank, so "
                "it cannot grow: decompose layer.weight.to_tensor() at that rank"
            )
    return made


def _owner(network: KernelNetwork, bond: str) -> int:
    """The last factor with a bond that is learned: of Tucker the core, of TT the next one."""
    learned = [index for index in network.free if bond in network.factors[index]]
    return learned[-1] if learned else -1


def _padded(kept: Sequence[Tensor], new: Sequence[Tensor], square: bool) -> list[Tensor]:
    """What is kept of the old slices, and for the new ones no momentum, and the mean square."""
    made = []
    for one, parameter in zip(kept, new, strict=True):
        room = torch.full_like(parameter, float(one.mean()) if square else 0.0, dtype=one.dtype)
        room[tuple(slice(size) for size in one.shape)] = one
        made.append(room)
    return made


def _through(before: Tangent, after: Tangent, kept: Sequence[Tensor], square: bool) -> list[Tensor]:
    wide = [one.to(before.factors[0].dtype) for one in kept]
    if square:
        average = spread(before.squared(), [one.abs() for one in wide])
    else:
        average = explained(before, wide)
    return projected(after, average, square)
