"""TensorLy's tensors as kernels, and kernels as TensorLy's tensors.

Its CP and Tucker tensors have the modes `(out, in, *k)`; its tensor trains `(in, *k, out)`, the
order of the chain here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..network import KernelNetwork
from ..plugin import Choice, Factorization, factorizations

Read = tuple[Choice[Factorization], KernelNetwork, list[Tensor]]


def read_tensorly(tensor: Any) -> Read:
    """The format, the network and copies of the factors of a TensorLy CP, Tucker or TT tensor.

    Raises `TypeError` for anything else, and `ValueError` for factors that fit no kernel.
    """
    readers = {"CPTensor": _read_cp, "TuckerTensor": _read_tucker, "TTTensor": _read_tt}
    reader = readers.get(type(tensor).__name__)
    if reader is None:
        raise TypeError(
            f"tensor={type(tensor).__name__} must be a TensorLy {', '.join(readers)}, of PyTorch "
            "tensors"
        )
    name, shape, rank, factors = reader(tensor)
    if len(shape) < 2:
        raise ValueError(f"tensor of shape {shape} must have at least the modes (out, in)")
    choice = factorizations.choose(name)
    network = choice.plugin.network(shape, rank)
    if [tuple(factor.shape) for factor in factors] != list(network.shapes):
        raise ValueError(
            f"tensor has factors {[tuple(f.shape) for f in factors]}; its exact ranks here are "
            f"{tuple(network.sizes[b] for b in network.bonds)}: decompose it again at those"
        )
    return choice, network, [factor.detach().clone().contiguous() for factor in factors]


def _torch(factors: Sequence[Any]) -> list[Tensor]:
    """The factors as PyTorch tensors; those of TensorLy's NumPy backend are converted."""
    return [f if isinstance(f, Tensor) else torch.as_tensor(f) for f in factors]


def _read_cp(tensor: Any) -> tuple[str, tuple[int, ...], Any, list[Tensor]]:
    factors = _torch(tensor.factors)
    if tensor.weights is not None:
        factors[0] = factors[0] * _torch([tensor.weights])[0]
    return "cp", tuple(len(factor) for factor in factors), factors[0].shape[1], factors


def _read_tucker(tensor: Any) -> tuple[str, tuple[int, ...], Any, list[Tensor]]:
    core, *factors = _torch([tensor.core, *tensor.factors])
    if len(factors) not in (2, core.dim()):
        raise ValueError(
            f"tensor has factors for {len(factors)} of {core.dim()} modes: it must have one for "
            "each, or for (out, in) alone"
        )
    if all(_is_identity(factor) for factor in factors[2:]):
        factors = factors[:2]
    shape = (*(len(factor) for factor in factors), *core.shape[len(factors) :])
    return "tucker", shape, tuple(factor.shape[1] for factor in factors), [*factors, core]


def _is_identity(factor: Tensor) -> bool:
    rows, columns = factor.shape
    return rows == columns and bool((factor == torch.eye(rows).to(factor)).all())


def _read_tt(tensor: Any) -> tuple[str, tuple[int, ...], Any, list[Tensor]]:
    cores = _torch(tensor.factors)
    sizes = [core.shape[1] for core in cores]
    first, *middle, last = cores
    factors = [first.squeeze(0), *middle, last.squeeze(2)]
    rank = tuple(core.shape[2] for core in cores[:-1])
    return "tt", (sizes[-1], *sizes[:-1]), rank, factors


def write_tensorly(name: str, network: KernelNetwork, factors: Sequence[Tensor]) -> Any:
    """A kernel's factors, copied, as TensorLy's tensor of that format.

    Raises `ValueError` for a format that TensorLy has not, for groups, and without TensorLy.
    """
    if name not in ("cp", "tucker", "tt"):
        raise ValueError(f"factorization={name!r} has no tensor in TensorLy: cp, tucker and tt do")
    if network.groups > 1:
        raise ValueError(f"groups={network.groups}: a TensorLy tensor has none; write each group's")
    try:
        import tensorly
        from tensorly.cp_tensor import CPTensor
        from tensorly.tt_tensor import TTTensor
        from tensorly.tucker_tensor import TuckerTensor
    except ImportError:
        raise ValueError("to_tensorly() needs TensorLy: pip install 'tenfold[tensorly]'") from None
    copies = [factor.detach().clone() for factor in factors]
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        if name == "cp":
            return CPTensor((torch.ones_like(copies[0][0]), copies))
        if name == "tt":
            first, *middle, last = copies
            return TTTensor([first.unsqueeze(0), *middle, last.unsqueeze(2)])
        bases = copies[:-1]
        if len(bases) < network.order + 2:  # spatial modes that are whole
            whole = [network.sizes[mode] for mode in network.spatial]
            bases += [torch.eye(size).to(copies[0]) for size in whole]
        return TuckerTensor((copies[-1], bases))
