"""Tensor lasso: a gate on every index of every bond, which an ℓ1 penalty closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import check_number, check_sizes
from ..layer import FactorizedKernel
from ..network import KernelSum
from ..plugin import Plan
from ..run import make_plan
from .attached import attach, attached, bonds_that_turn, detach, kernels_of, original


class BondGates(nn.Module):
    """Scales the slices of a factor along its bonds by gates; those near zero are closed."""

    def __init__(self, like: FactorizedKernel, threshold: float, axes: Mapping[str, int]) -> None:
        super().__init__()
        self.threshold, self.axes = threshold, dict(axes)
        real = like.factors[0].real.dtype
        ones = [torch.ones(like.network.sizes[bond], dtype=real) for bond in axes]
        self.gates = nn.ParameterList([nn.Parameter(one) for one in ones])

    def forward(self, factor: Tensor) -> Tensor:
        for gate, axis in zip(self.opened(), self.axes.values(), strict=True):
            factor = factor * gate.reshape(-1, *(1,) * (factor.dim() - axis - 1))
        return factor

    def opened(self) -> list[Tensor]:
        """The gates, zero where they are closed; the largest of each bond stays open."""
        return [gate * kept(gate, self.threshold) for gate in self.gates]


def kept(gate: Tensor, threshold: float) -> Tensor:
    """Which gates are above a threshold; the largest is."""
    sizes = gate.detach().abs()
    first = torch.arange(len(gate), device=gate.device) == sizes.argmax()
    return (sizes > threshold) | first


class TensorLasso:
    """The gates on the bonds of a module's kernels, and their penalty. Made by `tensor_lasso`.

    `penalty()` is to be added to the loss, times a factor of its own; `ranks()` are the numbers of
    open gates. `remove()` folds the gates into the factors, so that the outputs stay.

    >>> layer = FactorizedConv(8, 8, 3, order=2, rank=4)
    >>> lasso = tensor_lasso(layer)
    >>> isinstance(lasso, TensorLasso), lasso.penalty().item(), lasso.ranks()
    (True, 4.0, [(4,)])
    >>> lasso.remove()
    """

    def __init__(
        self, kernels: Sequence[FactorizedKernel], worth: Sequence[Mapping[str, float]]
    ) -> None:
        self.kernels, self.worth = list(kernels), list(worth)

    def penalty(self) -> Tensor:
        """The sum of the sizes of all gates, each times what its bond is worth; a scalar."""
        terms = [
            worth[bond] * gate.abs().sum()
            for kernel, worth in zip(self.kernels, self.worth, strict=True)
            for bond, gate in gates(kernel).items()
        ]
        return torch.stack(terms).sum()

    def ranks(self) -> list[tuple[int, ...]]:
        """The number of open gates of each bond, of each kernel."""
        found = []
        for kernel in self.kernels:
            left = {b: int((gate != 0).sum()) for b, gate in opened(kernel).items()}
            bonds, sizes = kernel.network.bonds, kernel.network.sizes
            found.append(tuple(left.get(bond, sizes[bond]) for bond in bonds))
        return found

    @torch.no_grad()
    def remove(self) -> None:
        """Fold the gates into the factors, and take them off."""
        for kernel in self.kernels:
            gated = attached(kernel, BondGates)
            folded = {index: gate(original(kernel, index)) for index, gate in gated}
            detach(kernel, BondGates)
            for index, values in folded.items():
                original(kernel, index).copy_(values)


def gates(kernel: FactorizedKernel) -> dict[str, Tensor]:
    """The gates of a kernel's bonds, as they are learned."""
    return {
        bond: gate
        for _, module in attached(kernel, BondGates)
        for bond, gate in zip(module.axes, module.gates, strict=True)
    }


def opened(kernel: FactorizedKernel) -> dict[str, Tensor]:
    """The gates of a kernel's bonds, zero where they are closed."""
    return {
        bond: gate
        for _, module in attached(kernel, BondGates)
        for bond, gate in zip(module.axes, module.opened(), strict=True)
    }


def tensor_lasso(
    module: nn.Module, threshold: float = 0.01, size: int | Sequence[int] | None = None
) -> TensorLasso:
    """Put a gate, 1 at first, on each index of each bond in `module`; an ℓ1 penalty closes them.

    Add `lasso.penalty()` to the loss and train factors and gates together, with some weight decay,
    or factors grow as gates shrink. A gate within `threshold` of zero counts as zero, and
    `prune_ranks` makes the factors smaller without it; one of each bond stays. With the spatial
    `size` of the module's input, a single layer's, a gate is worth the fraction of the layer's MACs
    that its index costs. Attached as `tensor_dropout` is; the gates are parameters, and saved.
    Bonds of constant factors, and of fixed sizes, have none.
    Tibshirani 1996, doi:10.1111/j.2517-6161.1996.tb02080.x.

    Raises `ValueError` for a `threshold` below 0, a module without a factorized kernel or with
    gates already, a `size` for more than one layer; `TypeError` for what is no module.

    >>> layer = FactorizedConv(8, 8, 3, order=2, rank=(6, 4), factorization="tucker")
    >>> lasso = tensor_lasso(layer, size=(12, 12))
    >>> loss = layer(torch.randn(2, 8, 12, 12)).square().mean() + 0.1 * lasso.penalty()
    >>> loss.backward()
    """
    check_number("threshold", threshold)
    if not threshold >= 0:
        raise ValueError(f"threshold={threshold!r} must be at least 0")
    kernels = kernels_of(module)
    if any(gates(kernel) for kernel in kernels):
        raise ValueError("module has gates on its bonds already: call remove() of their lasso")
    worth = [dict.fromkeys(bonds_that_turn(kernel), 1.0) for kernel in kernels]
    if size is not None:
        worth = [macs_of_bonds(module, size)]
    for kernel in kernels:
        attach(kernel, lambda axes, kernel=kernel: BondGates(kernel, threshold, axes))  # type: ignore[misc]
    return TensorLasso(kernels, worth)


def macs_of_bonds(layer: Any, size: int | Sequence[int]) -> dict[str, float]:
    """The fraction of a layer's MACs that one index of each bond costs."""
    config = getattr(layer, "config", None)
    if config is None or isinstance(layer.weight.network, KernelSum):
        raise ValueError(
            f"size={size!r} is for one layer, of one network, and module={type(layer).__name__}: "
            "call tensor_lasso for each layer, or leave size out"
        )
    size, network = check_sizes("size", size, config.order), layer.weight.network

    def macs(bond: str | None) -> float:
        sizes = {**network.sizes}
        if bond is not None:
            sizes[bond] += 1
        grown = replace(network, sizes=sizes)
        plan = make_plan(layer.weight.choice, grown, layer.runner, config.geometry)
        return (plan.macs(size) if isinstance(plan, Plan) else None) or grown.numel

    whole = macs(None)
    return {bond: (macs(bond) - whole) / whole for bond in bonds_that_turn(layer.weight)}
