"""Least squares for a kernel, or for one factor of it, from sums over responses."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ...algebra import by_group
from ...network import GROUP, OUT, KernelNetwork, Modes
from .response import Response

RIDGE = 1e-3  # of the mean diagonal, towards the present factor of the output
LARGE = 1024  # rows, from which float32 is worth it
WELL = 0.05  # the ridge with which float32 is exact enough
Fit = tuple[list[Tensor], Tensor | None]  # factors and bias


def regress(kernel: Tensor, response: Response, ridge: float) -> Tensor:
    """The kernel, `(groups, out, …)`, that answers best, near the one given."""
    size = response.seen.shape[1]
    pull = ridge * response.seen.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-30)
    narrow = size >= LARGE and ridge >= WELL
    dtype = torch.float32 if narrow else response.seen.dtype
    while True:
        moment = response.seen.to(dtype, copy=True)
        moment.diagonal(dim1=1, dim2=2).add_(pull.to(dtype))
        lower, failed = torch.linalg.cholesky_ex(moment)
        if not bool(failed.any()):
            break
        pull = 10 * pull  # rounding left the moment less definite than that
    right = response.cross + pull * kernel.flatten(2).to(response.cross)
    found = torch.cholesky_solve(right.to(dtype).mT, lower).mT
    return found.to(response.cross).reshape(kernel.shape)


def offset(kernel: Tensor, response: Response) -> Tensor:
    """The bias `(groups * out,)` with which a kernel `(groups, out, …)` answers best."""
    answered = kernel.flatten(2) @ response.mean[:, :, None]
    return (response.answer - answered[..., 0]).flatten()


def refit(network: KernelNetwork, factors: Sequence[Tensor], response: Response) -> Fit:
    """The output's factor and the bias fitted anew to what the other factors give."""
    seeds = features(network, factors)
    if seeds is None:
        return list(factors), None
    return solved(network, factors, response.projected(seeds))


def owner(network: KernelNetwork) -> int | None:
    """The one factor that has the output; None where several have."""
    owners = [index for index, names in enumerate(network.factors) if OUT in names]
    return owners[0] if len(owners) == 1 else None


def features(network: KernelNetwork, factors: Sequence[Tensor]) -> Tensor | None:
    """What the output's factor multiplies, as a linear map of patches: `(groups, features, n)`.

    It is the kernel of the network in which that factor is the identity.
    """
    place = owner(network)
    if place is None:
        return None
    names = network.factors[place]
    apart = [mode for mode in names if mode not in (OUT, GROUP)]
    sizes = [network.sizes[mode] for mode in apart]
    one = torch.eye(prod(sizes)).reshape(-1, *sizes).to(factors[place])
    ordered = (OUT, *apart)
    unit = one.permute([ordered.index(mode) for mode in names if mode != GROUP])
    if GROUP in names:
        unit = unit.unsqueeze(names.index(GROUP)).expand(
            *(network.groups if mode == GROUP else -1 for mode in names)
        )
    wide = KernelNetwork(network.factors, {**network.sizes, OUT: prod(sizes)})
    parts = [unit if index == place else factor for index, factor in enumerate(factors)]
    return by_group(wide.to_tensor(parts), network.groups).flatten(2)


def solved(network: KernelNetwork, factors: Sequence[Tensor], response: Response) -> Fit:
    """The output's factor, by regression on the features that the response is about."""
    place = owner(network)
    assert place is not None
    names, ordered = network.factors[place], _rows_first(network.factors[place])
    fresh = regress(rows(network, factors), response, RIDGE)
    bias = offset(fresh, response)
    grouped = fresh if GROUP in names else fresh[0]
    back = grouped.permute([ordered.index(mode) for mode in names])
    found = [back if index == place else factor for index, factor in enumerate(factors)]
    return found, bias


def rows(network: KernelNetwork, factors: Sequence[Tensor]) -> Tensor:
    """The output's factor, `(groups, out, …)`, as what multiplies the features."""
    place = owner(network)
    assert place is not None
    names = network.factors[place]
    found = factors[place].double().permute([names.index(m) for m in _rows_first(names)])
    return found if GROUP in names else found[None]


def _rows_first(names: Modes) -> Modes:
    group = (GROUP,) if GROUP in names else ()
    return (*group, OUT, *(mode for mode in names if mode not in (OUT, GROUP)))
