"""The factorized tensors by TensorLy-Torch's names: `CPTensor.new(shape, rank)` and the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import tensor as ours
from .named import Name
from .spelling import options_of, spelled


class TensorParameters(ours.TensorParameters):
    """A `tenfold.FactorizedTensor` with TensorLy-Torch's names of what it has."""

    @property
    def decomposition(self) -> Any:
        """The weights or the core, and the factors; the factors alone where there is neither."""
        if self.name == "dense":
            return self.to_tensor()
        wanted = {"cp": "weights", "tucker": "core"}.get(self.name)
        return self.factors if wanted is None else (getattr(self, wanted), self.factors)

    @property
    def tensor_shape(self) -> torch.Size:
        """The shape."""
        return self.shape

    @property
    def order(self) -> int:
        """The number of axes."""
        return self.ndim

    def init_from_tensor(self, tensor: Tensor, **options: Any) -> TensorParameters:
        """Decompose a tensor `(…, …)` of its shape, at its ranks, into its own parameters.

        Raises `ValueError` for one of another shape, or an option that the format has not.
        """
        if tensor.shape != self.shape:
            raise ValueError(f"tensor of shape {tuple(tensor.shape)} must have {tuple(self.shape)}")
        found = ours.FactorizedTensor.from_tensor(
            tensor,
            rank=self.rank,
            factorization=self.name,
            decomposition_kwargs=options_of(options),
        )
        with torch.no_grad():
            for mine, theirs in zip(self.parameters(), found.parameters(), strict=True):
                mine.copy_(theirs)
        return self


class Named(Name):
    """A name for the factorized tensors of one format, complex ones where the name says so.

    What it makes are `tenfold.FactorizedTensor`s; whether something is an instance is read off its
    format.
    """

    def __instancecheck__(self, instance: Any) -> bool:
        return (
            isinstance(instance, ours.FactorizedTensor)
            and self.format in ("", instance.name)
            and (instance.dtype.is_complex or not self.complex)
        )

    def new(
        self, shape: Sequence[int], rank: Any = "same", factorization: Any = None, **kwargs: Any
    ) -> TensorParameters:
        """Draw one of `shape`; by default a Tucker, as there. Raises as `FactorizedTensor.new`.

        The format `"ComplexCP"` is `"cp"` of complex numbers, and so on.
        """
        name, number = spelled(self.format or factorization or "tucker")
        if number or self.complex:
            kwargs.setdefault("dtype", torch.complex64)
        return _held(ours.FactorizedTensor.new(shape, **asked(name, rank, kwargs)))

    def from_tensor(
        self, tensor: Tensor, rank: Any = "same", factorization: Any = None, **kwargs: Any
    ) -> TensorParameters:
        """Decompose a tensor `(…, …)`; by default as a CP, as there. Raises as here."""
        name, number = spelled(self.format or factorization or "cp")
        if (number or self.complex) and not tensor.is_complex():
            tensor = tensor.to(torch.promote_types(tensor.dtype, torch.complex64))
        given = asked(name, rank, {"fixed_rank_modes": kwargs.pop("fixed_rank_modes", None)})
        options = options_of(kwargs)
        found = ours.FactorizedTensor.from_tensor(tensor, **given, decomposition_kwargs=options)
        return _held(found)


def asked(name: Any, rank: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as they are here: a dense tensor has no rank, and False fixes nothing."""
    fixed = kwargs.get("fixed_rank_modes") or None
    rank = "same" if name == "dense" and rank is None else rank
    return {**kwargs, "rank": rank, "factorization": name, "fixed_rank_modes": fixed}


def _held(tensor: ours.TensorParameters) -> TensorParameters:
    return TensorParameters((tensor.choice, tensor.network, tensor.names), list(tensor.tensors))


class FactorizedTensor(metaclass=Named):
    """A factorized tensor of any format."""


class DenseTensor(metaclass=Named, format="dense"):
    """A tensor that is kept whole."""


class CPTensor(metaclass=Named, format="cp"):
    """A sum of outer products."""


class TuckerTensor(metaclass=Named, format="tucker"):
    """A core between one matrix for each axis."""


class TTTensor(metaclass=Named, format="tt"):
    """A chain with one factor for each axis."""


class ComplexDenseTensor(metaclass=Named, format="dense", complex=True):
    """A complex tensor that is kept whole."""


class ComplexCPTensor(metaclass=Named, format="cp", complex=True):
    """A complex CP."""


class ComplexTuckerTensor(metaclass=Named, format="tucker", complex=True):
    """A complex Tucker."""


class ComplexTTTensor(metaclass=Named, format="tt", complex=True):
    """A complex tensor train."""


def tensor_init(tensor: Any, std: float = 0.02) -> Any:
    """Draw a tensor anew, factorized or not, with this standard deviation; returns it.

    Raises `TypeError` for what is neither.
    """
    if isinstance(tensor, ours.TensorParameters):
        return tensor.normal_(0, std)
    return nn.init.normal_(tensor, 0, std)
