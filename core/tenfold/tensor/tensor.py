"""The factorized tensor: made, held as parameters, and what became of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import check_device, check_dtype, check_generator
from ..network import KernelNetwork, Modes, parts_of, terms_of
from ..plugin import Choice, Factorization
from ..solve import drawn
from .forms import dense_of, nothing
from .making import Made, axes_of, decomposed, structured
from .term import Term
from .values import TensorValue


class FactorizedTensor(TensorValue):
    """A tensor of any shape, real or complex, held as the factors of a tensor network.

    `new` and `from_tensor` make one that is an `nn.Module` and whose factors are its parameters.
    Indexing it (by ints, slices, lists, masks, `None` and `...`), adding, scaling, transposing or
    summing it gives one that holds what became of the factors: no module, but differentiable,
    and equal to the same of the dense tensor. `torch.einsum`, `@` and `torch.tensordot` contract
    the factors one after another; other functions of PyTorch meet the dense tensor, and one that
    would write into it is refused with a `TypeError`.

    `name` is the format's. The axes are the open modes of the format in the order in which its
    factors name them: of a tensor train they are its chain.

    >>> weight = FactorizedTensor.new((8, 6, 5, 4), rank=0.5, factorization="tucker")
    >>> weight.name, weight.shape, weight.ndim, weight.dim(), weight.size(0), weight.numel()
    ('tucker', torch.Size([8, 6, 5, 4]), 4, 4, 8, 960)
    >>> weight.dtype, weight.device, weight.rank
    (torch.float32, device(type='cpu'), (6, 5, 4, 3))
    >>> part = weight[:, 2, ..., [0, 3]]
    >>> part.shape, len(part), torch.equal(part.to_tensor(), weight.to_tensor()[:, 2, ..., [0, 3]])
    (torch.Size([8, 5, 2]), 8, False)
    >>> weight.of(weight.terms).shape == weight.shape
    True
    >>> torch.einsum("bi,iokl->bokl", torch.randn(2, 8), weight).shape
    torch.Size([2, 6, 5, 4])
    """

    def of(self, terms: Sequence[Term]) -> FactorizedTensor | Tensor:
        """A tensor of this format with other `terms`; where no axis is left, a scalar.

        Raises nothing.
        """
        return DerivedTensor(tuple(terms), self.name) if terms[0].axes else dense_of(terms)

    @classmethod
    def new(
        cls,
        shape: Sequence[int],
        *,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "cp",
        fixed_rank_modes: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> TensorParameters:
        """Draw a random tensor of any shape, of mean 0 and standard deviation 1.

        `rank` is as `FactorizedConv` has it, Tucker with a rank for each axis; the factorization
        `"dense"` keeps the tensor whole. The axes `fixed_rank_modes` keep their full rank, in
        formats that have a rank of an axis by itself (Tucker). Raises `ValueError` or `TypeError`
        for a bad argument.

        >>> FactorizedTensor.new((6, 5, 4), rank=2, factorization="tucker",
        ...                      fixed_rank_modes=[1], dtype=torch.complex64).rank
        (2, 4, 2)
        """
        like = torch.empty(0, device=check_device(device), dtype=check_dtype(dtype))
        check_generator(generator)
        made = structured(shape, rank, factorization, fixed_rank_modes)
        tensor = TensorParameters(made, [like.new_empty(one) for one in made[1].shapes])
        return tensor.normal_(generator=generator)

    @classmethod
    def from_tensor(
        cls,
        tensor: Tensor,
        *,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "cp",
        fixed_rank_modes: Sequence[int] | None = None,
        decomposition_kwargs: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> TensorParameters:
        """Decompose a tensor `(…, …)`, which is not changed; the arguments are those of `new`.

        `decomposition_kwargs` are the format's own options. Raises `ValueError` or `TypeError` for
        a bad argument, or values not finite.

        >>> tensor = torch.randn(4, 3, 5)
        >>> whole = FactorizedTensor.from_tensor(tensor, rank=99, factorization="tt")
        >>> relative_error(tensor, whole.to_tensor()) < 1e-5
        True
        """
        check_generator(generator)
        made, factors = decomposed(
            tensor, rank, factorization, fixed_rank_modes, decomposition_kwargs, generator
        )
        return TensorParameters(made, [factor.to(tensor.dtype) for factor in factors])


class DerivedTensor(FactorizedTensor):
    """What became of a factorized tensor: the terms themselves."""

    def __init__(self, terms: tuple[Term, ...], name: str) -> None:
        self._terms = terms
        self.name = name

    @property
    def terms(self) -> tuple[Term, ...]:
        return self._terms

    def __repr__(self) -> str:
        return f"<{self.name} tensor of {tuple(self.shape)}, rank {self.rank}>"


class TensorParameters(FactorizedTensor, nn.Module):
    """A factorized tensor whose factors are the parameters of a module; made by `new`."""

    def __init__(self, made: Made, factors: Sequence[Tensor]) -> None:
        nn.Module.__init__(self)
        self.choice: Choice[Factorization]
        self.network: KernelNetwork
        self.names: Modes
        self.choice, self.network, self.names = made
        self.axes = [axes_of(term, self.names) for term in terms_of(self.network)]
        self.name = self.choice.name
        self.places = tuple(str(index) for index in range(len(factors)))
        self.tensors = nn.ParameterList(
            [one if isinstance(one, nn.Parameter) else nn.Parameter(one) for one in factors]
        )
        for index, values in self.choice.plugin.constants(self.network, factors[0]).items():
            delattr(self.tensors, str(index))
            self.tensors.register_buffer(str(index), values.to(factors[index].device))

    def __getattr__(self, name: str) -> Any:
        if name in ("core", "weights"):  # a module asks here again, and would say less
            raise nothing(self.name, name)
        return super().__getattr__(name)

    @property
    def terms(self) -> tuple[Term, ...]:
        held = self._modules["tensors"]  # read as lists do, in a fraction of their time
        assert held is not None
        every = {**held._parameters, **held._buffers}
        tensors = [every[name] for name in self.places]
        parts = parts_of(self.network, tensors)  # type: ignore[arg-type]
        given = zip(terms_of(self.network), parts, self.axes, strict=True)
        return tuple(Term(one.factors, tuple(part), axes) for one, part, axes in given)

    @torch.no_grad()
    def normal_(
        self, mean: float = 0.0, std: float = 1.0, generator: torch.Generator | None = None
    ) -> TensorParameters:
        """Draw the factors anew, so that the *tensor* has the standard deviation `std`.

        Its factors are normal, of equal norms; of complex ones the real and the imaginary part
        have half the variance each, as PyTorch's. Raises `ValueError` for a `mean` that is not 0 of
        what is not dense: a product of random factors has none.
        """
        if not isinstance(std, Real) or not 0 <= std < float("inf"):
            raise ValueError(f"std={std!r} must be a number of at least 0")
        if mean != 0 and self.name != "dense":
            raise ValueError(f"mean={mean!r} of a factorized tensor: it can be 0 alone")
        tensors = tuple(self.tensors)
        if not tensors[0].is_meta:
            energy = float(std) ** 2 * self.numel()
            values = drawn(self.network, tensors, energy, generator)
            for index in self.network.free:
                tensors[index].copy_(values[index] + mean)
        return self

    def forward(self, indices: Any = None) -> FactorizedTensor | Tensor:
        """Itself, or what `indices` choose of it; hooks of modules see either."""
        return self if indices is None else self[indices]

    def extra_repr(self) -> str:
        return f"{tuple(self.shape)}, rank={self.rank}, factorization={self.choice.spelled}"

    def __repr__(self) -> str:
        return f"FactorizedTensor.new({self.extra_repr()})"
