"""Matrices whose sides are products, by TensorLy-Torch's names: `CPTensorized.new(shape, rank)`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from .. import tensor as ours
from .named import Name
from .spelling import matrix, options_of, spelled

Sides = Sequence[Sequence[int]]  # the parts of the rows, and of the columns


class TensorizedParameters(ours.TensorParameters):
    """A `tenfold.FactorizedTensor` of two axes, each in several parts."""

    tensorized_shape: tuple[tuple[int, ...], ...]

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """The parts of the rows, then those of the columns."""
        return tuple(part for side in self.tensorized_shape for part in side)

    def to_matrix(self) -> Tensor:
        """The dense matrix, `(rows, columns)`."""
        return self.to_tensor()


class Named(Name):
    """A name for matrices of one format, complex ones where the name says so."""

    def __instancecheck__(self, instance: Any) -> bool:
        if not isinstance(instance, TensorizedParameters):
            return False
        kind = type(instance.choice.plugin)
        right = not self.format or kind is type(ours.format_of(matrix(self.format)))
        return right and (instance.dtype.is_complex or not self.complex)

    def new(
        self, tensorized_shape: Sides, rank: Any, factorization: Any = None, **kwargs: Any
    ) -> TensorizedParameters:
        """Draw a matrix whose sides have these parts; raises as `FactorizedTensor.new`.

        Several matrices in one are refused with a `ValueError`.
        """
        sides, format_, number = self._asked(tensorized_shape, factorization)
        if number:
            kwargs.setdefault("dtype", torch.complex64)
        shape = [prod(side) for side in sides]
        made = ours.FactorizedTensor.new(shape, rank=rank, factorization=format_, **kwargs)
        return _held(made, sides)

    def from_tensor(
        self, tensor: Tensor, shape: Sides, rank: Any, factorization: Any = None, **kwargs: Any
    ) -> TensorizedParameters:
        """Decompose a tensor that is such a matrix, `(rows, columns)`, whatever its shape."""
        sides, format_, number = self._asked(shape, factorization)
        whole = tensor.reshape([prod(side) for side in sides])
        if number and not whole.is_complex():
            whole = whole.to(torch.promote_types(whole.dtype, torch.complex64))
        made = ours.FactorizedTensor.from_tensor(
            whole, rank=rank, factorization=format_, decomposition_kwargs=options_of(kwargs)
        )
        return _held(made, sides)

    def from_matrix(
        self,
        matrix: Tensor,
        tensorized_row_shape: Sequence[int],
        tensorized_column_shape: Sequence[int],
        rank: Any,
        factorization: Any = None,
        **kwargs: Any,
    ) -> TensorizedParameters:
        """Decompose a matrix `(rows, columns)`."""
        sides = (tensorized_row_shape, tensorized_column_shape)
        return self.from_tensor(matrix, sides, rank, factorization, **kwargs)

    def _asked(self, shape: Sides, factorization: Any) -> tuple[Sides, Any, bool]:
        if len(shape) != 2 or not all(isinstance(side, Sequence) for side in shape):
            raise ValueError(f"shape={shape!r} must be of one matrix: make several of them apart")
        name = self.format or factorization or "cp"
        rows, columns = (tuple(side) for side in shape)
        if len(rows) != len(columns):
            raise ValueError(f"shape={shape!r} must have as many parts on both sides: add ones")
        number = spelled(name)[1] or self.complex
        format_ = matrix(name)
        if format_ != "dense":  # whose factors name the columns' modes after the rows'
            format_ = matrix(name, parts=len(rows), ins=rows, outs=columns)
        return (rows, columns), format_, number


def _held(made: ours.TensorParameters, sides: Sides) -> TensorizedParameters:
    held = TensorizedParameters((made.choice, made.network, made.names), list(made.tensors))
    held.tensorized_shape = tuple(tuple(side) for side in sides)
    return held


class TensorizedTensor(metaclass=Named):
    """A matrix of any such format."""


class DenseTensorized(metaclass=Named, format="dense"):
    """A matrix that is kept whole."""


class CPTensorized(metaclass=Named, format="cp"):
    """A sum of Kronecker products."""


class TuckerTensorized(metaclass=Named, format="tucker"):
    """A core between one matrix for each pair of parts."""


class BlockTT(metaclass=Named, format="blocktt"):
    """A chain with one factor for each pair of parts."""


class ComplexDenseTensorized(metaclass=Named, format="dense", complex=True):
    """A complex matrix that is kept whole."""


class ComplexCPTensorized(metaclass=Named, format="cp", complex=True):
    """A complex sum of Kronecker products."""


class ComplexTuckerTensorized(metaclass=Named, format="tucker", complex=True):
    """A complex one with a core."""


class ComplexBlockTT(metaclass=Named, format="blocktt", complex=True):
    """A complex chain."""
