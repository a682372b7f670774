"""Modules attached to the factors of a kernel, by PyTorch's own parametrization, and taken off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..arguments import check_model
from ..layer import FactorizedKernel

M = TypeVar("M", bound=nn.Module)
Axes = dict[str, int]  # bonds, and their axes of one factor


def kernels_of(module: Any) -> list[FactorizedKernel]:
    """The factorized kernels in a module, each once; `ValueError` where it has none."""
    kernels = [m for m in check_model("module", module).modules() if type(m) in _kinds()]
    if not kernels:
        raise ValueError(
            f"module={type(module).__name__} has no factorized kernel: give a layer that has one"
        )
    return kernels  # type: ignore[return-value]


def _kinds() -> set[type]:
    return {FactorizedKernel, *FactorizedKernel.__subclasses__()}


def bonds_that_turn(kernel: FactorizedKernel) -> list[str]:
    """The bonds whose size may change: none of a constant factor's, and none of a fixed size."""
    network = kernel.network
    ones = (1,) * len(network.bonds)
    least = kernel.choice.plugin.network(kernel.shape, ones, kernel.groups)
    fixed = {mode for index in network.constants for mode in network.factors[index]}
    return [b for b in network.bonds if b not in fixed and least.sizes.get(b) == 1]


def owners(kernel: FactorizedKernel) -> dict[int, Axes]:
    """For each bond that turns, the smallest factor that has it, and its axis there."""
    network = kernel.network
    found: dict[int, Axes] = {}
    for bond in bonds_that_turn(kernel):
        having = [index for index in network.free if bond in network.factors[index]]
        index = min(having, key=lambda one: kernel.factors[one].numel())
        found.setdefault(index, {})[bond] = network.factors[index].index(bond)
    return found


def attach(kernel: FactorizedKernel, make: Callable[[Axes], nn.Module]) -> None:
    """Let what `make` gives for some bonds' axes act on the factor that has them."""
    for index, axes in owners(kernel).items():
        module = make(axes).to(kernel.device).train(kernel.training)
        parametrize.register_parametrization(kernel.factors, str(index), module, unsafe=True)


def attached(kernel: FactorizedKernel, kind: type[M]) -> Iterator[tuple[int, M]]:
    """The modules of a kind that act on the factors, and on which."""
    lists: Any = getattr(kernel.factors, "parametrizations", {})
    for index in range(len(kernel.network.factors)):
        if str(index) in lists:
            yield from ((index, one) for one in lists[str(index)] if isinstance(one, kind))


def original(kernel: FactorizedKernel, index: int) -> Tensor:
    """The parameter of a factor, whatever acts on it."""
    lists: Any = getattr(kernel.factors, "parametrizations", {})
    found: Tensor = lists[str(index)].original if str(index) in lists else kernel.factors[index]
    return found


@torch.no_grad()
def detach(kernel: FactorizedKernel, kind: type[nn.Module]) -> None:
    """Take the modules of a kind off; the factors are the parameters that they were, in order."""
    for index in {index for index, _ in attached(kernel, kind)}:
        name = str(index)
        lists: Any = kernel.factors.parametrizations
        others = [one for one in lists[name] if not isinstance(one, kind)]
        parametrize.remove_parametrizations(kernel.factors, name, leave_parametrized=False)
        for other in others:
            parametrize.register_parametrization(kernel.factors, name, other, unsafe=True)
    held = kernel.factors._parameters
    for name in sorted(held, key=int):
        held[name] = held.pop(name)
