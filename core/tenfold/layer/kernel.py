"""A factorized kernel: the factors of a network, as parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import check_device, check_dtype, check_generator, check_tensor
from ..network import KernelNetwork
from ..plugin import Choice, Factorization, factorizations
from ..solve import (
    check_finite,
    drawn,
    fit,
    read_tensorly,
    rounded,
    structure,
    with_options,
    write_tensorly,
)
from .factors import Factors
from .moment import Moment, check_moment
from .spectral import check_init, spectral
from .undrawn import allocate, check_shape


class FactorizedKernel(Factors):
    """A convolution kernel `(out, in/groups, *k)` held as the factors of a tensor network.

    Made by `new` and `from_tensor`. `factors` are its parameters, one for each factor of
    `network`, with that factor's modes as axes; those that the format fixes are buffers.

    >>> kernel = FactorizedKernel.new((32, 16, 3, 3), rank=8, factorization="cp")
    >>> [tuple(factor.shape) for factor in kernel.factors], kernel.numel()
    ([(32, 8), (16, 8), (3, 8), (3, 8)], 432)
    >>> kernel.shape, kernel.rank, kernel.factorization, kernel.groups
    ((32, 16, 3, 3), 8, 'cp', 1)
    >>> all(one is factor for one, factor in zip(kernel.current(), kernel.factors))
    True
    >>> kernel.dtype, kernel.device
    (torch.float32, device(type='cpu'))
    >>> kernel.to_tensor().shape
    torch.Size([32, 16, 3, 3])
    """

    def __init__(
        self, network: KernelNetwork, factors: Sequence[Tensor], choice: Choice[Factorization]
    ) -> None:
        super().__init__()
        self.network = network
        self.choice = choice
        self.factors = nn.ParameterList([nn.Parameter(factor) for factor in factors])
        for index, values in choice.plugin.constants(network, factors[0]).items():
            delattr(self.factors, str(index))
            self.factors.register_buffer(str(index), values.to(factors[index].device))

    @classmethod
    def new(
        cls,
        shape: Sequence[int],
        *,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "cp",
        groups: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> FactorizedKernel:
        """Draw a random kernel of shape `(out, in/groups, *k)`.

        Its variance is what `nn.ConvNd` gives a kernel of that shape, whatever the format. See
        `FactorizedConv` for `rank`. Raises `ValueError` or `TypeError` for a bad argument.
        """
        like = torch.empty(0, device=check_device(device), dtype=check_dtype(dtype))
        check_generator(generator)
        choice = factorizations.choose(factorization)
        network = structure(choice.plugin, check_shape(shape, groups), rank, groups, None)
        kernel = cls(network, allocate(network, like), choice)
        kernel.reset_parameters(generator=generator)
        return kernel

    @classmethod
    def from_tensor(
        cls,
        tensor: Tensor,
        *,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "cp",
        groups: int = 1,
        generator: torch.Generator | None = None,
        decomposition_kwargs: Mapping[str, Any] | None = None,
        moment: Moment | None = None,
    ) -> FactorizedKernel:
        """Decompose a kernel `(out, in/groups, *k)`; it is not changed.

        The factors have the tensor's dtype and device. `decomposition_kwargs` are the format's own
        options; with a `moment` the error of the output counts, not the kernel's. Raises
        `ValueError` or `TypeError` for a bad argument, or values not finite.

        >>> kernel = torch.randn(8, 4, 3, 3)
        >>> whole = FactorizedKernel.from_tensor(kernel, rank=10**9, factorization="tt")
        >>> whole.rank, relative_error(kernel, whole.to_tensor()) < 1e-5
        ((4, 12, 8), True)
        """
        check_finite(check_tensor("tensor", tensor))
        check_generator(generator)
        check_moment(moment)
        choice = factorizations.choose(factorization)
        plugin = with_options(choice.plugin, decomposition_kwargs)
        check_shape(tensor.shape, groups, "tensor of shape ")
        return cls(*fit(plugin, tensor, rank, groups, generator, moment), choice)

    @classmethod
    def from_tensorly(cls, tensor: Any) -> FactorizedKernel:
        """Take the factors of a TensorLy `CPTensor`, `TuckerTensor` or `TTTensor`; copied.

        The first two have the modes `(out, in, *k)`, a tensor train `(in, *k, out)`. CP's weights
        go into its first factor. Raises `TypeError` for another type, `ValueError` for factors that
        are no kernel's, as one with ranks above what is exact.

        >>> kernel = FactorizedKernel.new((8, 4, 3, 3), rank=2, factorization="tucker")
        >>> there_and_back = FactorizedKernel.from_tensorly(kernel.to_tensorly())
        >>> relative_error(kernel.to_tensor(), there_and_back.to_tensor()) < 1e-6
        True
        """
        choice, network, factors = read_tensorly(tensor)
        return cls(network, factors, choice)

    def to_tensorly(self) -> Any:
        """TensorLy's tensor with copies of the factors: the way back of `from_tensorly`.

        A Tucker whose spatial modes are whole gets identities for them. Raises `ValueError` for a
        format that TensorLy has not, for groups, or where TensorLy is not installed.
        """
        return write_tensorly(self.factorization, self.network, tuple(self.factors))

    @property
    def factorization(self) -> str:
        """The name of the format."""
        return self.choice.name

    @property
    def shape(self) -> tuple[int, ...]:
        """`(out, in/groups, *k)`."""
        return self.network.shape

    @property
    def groups(self) -> int:
        """The number of groups, as `nn.ConvNd` has them."""
        return self.network.groups

    @property
    def rank(self) -> int | tuple[int, ...]:
        """The size of the one bond, or of each; asked for as `rank=`, it gives the same shapes."""
        sizes = tuple(self.network.sizes[bond] for bond in self.network.bonds)
        return sizes[0] if len(sizes) == 1 else sizes

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the factors."""
        dtype: torch.dtype = self.factors[0].dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the factors are."""
        device: torch.device = self.factors[0].device
        return device

    def numel(self) -> int:
        """The number of parameters, of all factors but constants."""
        return self.network.numel

    def current(self) -> tuple[Tensor, ...]:
        """The factors, each `(size, …)` of its modes, as the next call uses them.

        Hooks that make them of others, as pruning's, run first.
        """
        if not torch.compiler.is_compiling():
            for hook in self.factors._forward_pre_hooks.values():  # nobody calls a list
                hook(self.factors, ())
        return tuple(self.factors)

    def to_tensor(self) -> Tensor:
        """Contract the factors to the kernel `(out, in/groups, *k)`."""
        return self.network.to_tensor(self.current())

    def round(self, rank: Any) -> FactorizedKernel:
        """A smaller kernel of the same format near this one, without making the dense kernel.

        Bonds without loops (TT, Tucker, SVDs) are cut by QR and SVD: the error is the least of one
        bond, within `√bonds` of the least of several, and exact where nothing is lost. Others (CP,
        block terms) are fitted by least squares through Gram matrices, from their largest terms,
        exact to about 1e-7; the terms of a sum by themselves, and then together. No bond grows.
        `Error` and `Energy` are of this kernel. Raises `ValueError` or `TypeError` for a bad `rank`
        or the meta device.
        Oseledets 2011, doi:10.1137/090752286; Kolda and Bader 2009, doi:10.1137/07070111X.

        >>> kernel = FactorizedKernel.new((16, 16, 3, 3), rank=12, factorization="tucker")
        >>> near = kernel.round(Error(0.3))
        >>> relative_error(kernel.to_tensor(), near.to_tensor()) <= 0.3
        True
        """
        network, factors = rounded(self.choice.plugin, self.network, tuple(self.factors), rank)
        made = type(self)(network, factors, self.choice).train(self.training)
        return made.requires_grad_(any(one.requires_grad for one in self.factors))

    @torch.no_grad()
    def reset_parameters(
        self,
        variance: float | None = None,
        generator: torch.Generator | None = None,
        init: str = "variance",
    ) -> None:
        """Draw the factors anew: normal, of equal norms, the kernel's mean square `variance`.

        Of a complex kernel, that of its real and of its imaginary part, each. By default it is
        `1 / (3 * fan_in)`, as `nn.ConvNd` has it (He et al. 2015, arXiv
        1502.01852, with `a = sqrt(5)`). With `init="spectral"` they are the balanced decomposition
        of a dense kernel, uniform of that variance (Khodak et al. 2021, arXiv 2105.01029). Raises
        `ValueError` for another `init`; on the meta device nothing is drawn.

        >>> kernel = FactorizedKernel.new((64, 64, 3, 3), rank=8)
        >>> kernel.reset_parameters(variance=2.0, generator=torch.Generator().manual_seed(0))
        >>> round(float(kernel.to_tensor().detach().square().mean()), 4)
        2.0
        """
        check_init(init)
        if self.factors[0].is_meta:
            return
        variance = 1 / (3 * prod(self.shape[1:])) if variance is None else variance
        if init == "spectral":
            like = self.factors[0]
            values = spectral(self.choice.plugin, self.network, like, variance, generator)
        else:
            energy = variance * prod(self.shape) * (2 if self.dtype.is_complex else 1)
            values = drawn(self.network, tuple(self.factors), energy, generator)
        for index in self.network.free:
            held: Any = getattr(self.factors, "parametrizations", {})
            mine = held[str(index)].original if str(index) in held else self.factors[index]
            mine.copy_(values[index])

    def __repr__(self) -> str:
        shape, rank = tuple(self.shape), self.rank
        call = f"FactorizedKernel.new({shape}, rank={rank}, factorization={self.choice.spelled}"
        return call + (f", groups={self.groups})" if self.groups > 1 else ")")
