"""Tensor dropout: in training, some of the indices of every bond are left out."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TypeVar

from torch import Tensor, nn

from .attached import attach, attached, detach, kernels_of

T = TypeVar("T", bound=nn.Module)


class BondDropout(nn.Module):
    """Scales the slices of a factor along its bonds by 0, or by what makes up for that."""

    def __init__(self, p: float, axes: Mapping[str, int]) -> None:
        super().__init__()
        self.p, self.axes = p, dict(axes)

    def forward(self, factor: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return factor
        for axis in self.axes.values():
            kept = factor.real.new_empty(factor.shape[axis]).bernoulli_(1 - self.p) / (1 - self.p)
            factor = factor * kept.reshape(-1, *(1,) * (factor.dim() - axis - 1))
        return factor


def tensor_dropout(module: T, p: float = 0.1) -> T:
    """Let each index of each bond in `module` be dropped with probability `p` while it trains.

    Those that stay are scaled by `1/(1 - p)`, once a bond, so that the kernel's expectation is the
    kernel, in every format and at every rank; in eval nothing is done. Every factorized kernel in
    `module`, which is returned, takes part, but for bonds of a constant factor or of a fixed size.
    It is attached as PyTorch's parametrizations are: `state_dict` names the factors anew
    until `remove_tensor_dropout`, and `torch.save` of the whole module is refused.
    Kolbeinsson et al. 2021, arXiv 1902.10758.

    Raises `ValueError` where `p` is no number from 0 to below 1, where there is no factorized
    kernel, and where there is dropout already; `TypeError` for what is no module.

    >>> layer = tensor_dropout(FactorizedConv(8, 8, 3, order=2, rank=4), p=0.5)
    >>> x = torch.randn(1, 8, 6, 6)
    >>> torch.equal(layer(x), layer(x)), torch.equal(layer.eval()(x), layer(x))
    (False, True)
    """
    if not isinstance(p, Real) or isinstance(p, bool) or not 0 <= p < 1:
        raise ValueError(f"p={p!r} must be a number from 0 to below 1")
    kernels = kernels_of(module)
    if any(True for kernel in kernels for _ in attached(kernel, BondDropout)):
        raise ValueError("module has tensor dropout already: call remove_tensor_dropout first")
    for kernel in kernels:
        attach(kernel, lambda axes: BondDropout(float(p), axes))
    return module


def remove_tensor_dropout(module: T) -> T:
    """Take tensor dropout off every kernel in `module`, which is returned, without a trace.

    The factors are the parameters that they were. Raises `ValueError` where there is no factorized
    kernel, and `TypeError` for what is no module. As Kolbeinsson et al. 2021,
    arXiv 1902.10758, leave it out when training is done.

    >>> layer = FactorizedConv(8, 8, 3, order=2, rank=4)
    >>> names = list(layer.state_dict())
    >>> list(remove_tensor_dropout(tensor_dropout(layer)).state_dict()) == names
    True
    """
    for kernel in kernels_of(module):
        detach(kernel, BondDropout)
    return module
