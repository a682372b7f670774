"""What a sum of terms is as a tensor: its shape and form, its parts, its arithmetic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..network import Modes
from . import forms, functions
from .indexing import parsed, take
from .term import Term

TORCH: Any = torch  # whose functions are annotated for tensors, and take what has their protocol


class TensorValue(ABC):
    """A tensor held as a sum of terms; `name` is its format's."""

    name: str

    @property
    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """The products of named tensors of which this is the sum."""

    @abstractmethod
    def of(self, terms: Sequence[Term]) -> Any:
        """A tensor of this format with other `terms`; their sum where no axis is left."""

    @property
    def shape(self) -> torch.Size:
        """The size of each axis."""
        return torch.Size(self.terms[0].shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.terms[0].axes)

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    def size(self, axis: int | None = None) -> Any:
        """The shape, or the size of one axis; raises `IndexError` where there is none such."""
        return self.shape if axis is None else self.shape[axis]

    def numel(self) -> int:
        """The number of the tensor's elements; that of its parameters is less."""
        return self.shape.numel()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the factors."""
        return self.terms[0].tensors[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the factors are."""
        return self.terms[0].tensors[0].device

    @property
    def rank(self) -> int | tuple[int, ...]:
        """The size of the one mode that is summed over, or of each."""
        found: list[int] = []
        for term in self.terms:
            opens = {mode for axis in term.axes for mode in axis}
            found += [size for mode, size in term.sizes.items() if mode not in opens]
        return found[0] if len(found) == 1 else tuple(found)

    def to_tensor(self) -> Tensor:
        """Contract the factors to the dense tensor, of the same shape.

        One that is made has one of its first two axes last in memory, as spectral convolutions like
        it.
        """
        return forms.dense_of(self.terms)

    @property
    def factors(self) -> list[Tensor]:
        """The factors, as the field writes those of CP `(size, r)`, Tucker `(size, r)` and
        tensor trains `(r, size, r)`, one for each axis; of any other format, all its tensors."""
        terms = self.terms
        found = forms.factors(self.name, terms[0]) if len(terms) == 1 else None
        return [one for term in terms for one in term.tensors] if found is None else found

    @property
    def core(self) -> Tensor:
        """Tucker's core, `(r, …, r)`; raises `AttributeError` where there is none."""
        return forms.core(self.terms[0], self._bonds("tucker", "core"))

    @property
    def weights(self) -> Tensor:
        """What CP's products are multiplied by, `(r,)`; raises `AttributeError` without any.

        Ones, but for axes that an int was chosen of."""
        return forms.weights(self.terms[0], self._bonds("cp", "weights"))

    def _bonds(self, name: str, wanted: str) -> Modes:
        terms = self.terms
        whole = self.name == name and len(terms) == 1
        bonds = forms.bonds_of(name, terms[0]) if whole else None
        if not bonds:
            raise forms.nothing(self.name, wanted)
        return bonds

    def __getitem__(self, indices: Any) -> Any:
        terms = self.terms
        entries = parsed(indices, terms[0].shape, terms[0].tensors[0].device)
        return self.of([take(term, entries) for term in terms])

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(len(self)))

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return functions.call(TensorValue, function, args, kwargs or {})

    def __add__(self, other: Any) -> Any:
        return TORCH.add(self, other)

    def __sub__(self, other: Any) -> Any:
        return TORCH.sub(self, other)

    def __rsub__(self, other: Any) -> Any:
        return TORCH.add(TORCH.neg(self), other)

    def __mul__(self, other: Any) -> Any:
        return TORCH.mul(self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> Any:
        return TORCH.true_divide(self, other)

    def __neg__(self) -> Any:
        return TORCH.neg(self)

    def __matmul__(self, other: Any) -> Any:
        return TORCH.matmul(self, other)
