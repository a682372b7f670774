"""Joint layers: one network parametrizes many convolutions of one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..network import slice_layers
from ..plugin import Implementation, implementations
from ..run import LAID_OUT, in_format, is_channels_last
from .config import ConvConfig
from .kernel import FactorizedKernel
from .member import Member
from .transduction import check_axis, freeze_others, stretched, transducted

if TYPE_CHECKING:
    from typing_extensions import Self


class JointConv(nn.Module):
    """Many convolutions of one shape, whose kernels are slices of one tensor network.

    The kernel is `(out, in/groups, *n_layers, *k)`, in any format, with a mode for each number of
    `n_layers`; so the layers share their factors but for those with these modes. Each has its own
    stride, padding, dilation and bias. Made by `FactorizedConv(…, n_layers=4)`,
    `FactorizedConv.from_conv_list` and `FactorizedConv.from_factorization(…, n_layers=4)`. Kossaifi
    et al. 2019, "T-Net", arXiv 1904.02698.

    `layer(x, index)` runs one, and `layer[index]` is it: a module without parameters of its own, so
    that a `state_dict` has each once. The joint layer itself has to be in the network.

    >>> layer = FactorizedConv(8, 8, 3, padding=1, order=2, n_layers=(2, 3), rank=0.2)
    >>> isinstance(layer, JointConv), len(layer), layer.n_layers, layer.weight.shape
    (True, 6, (2, 3), (8, 8, 2, 3, 3, 3))
    >>> x = torch.randn(1, 8, 10, 10)
    >>> torch.equal(layer(x, (1, 2)), layer[1, 2](x))
    True
    >>> layer.reset_parameters()
    """

    def __init__(
        self,
        kernel: FactorizedKernel,
        n_layers: tuple[int, ...],
        configs: Sequence[ConvConfig],
        biases: Sequence[Tensor | None],
        implementation: str | Implementation | type[Implementation],
        single: Any,  # the class that one of them is by itself
    ) -> None:
        super().__init__()
        self.single = single
        self.n_layers = n_layers
        self.init = "variance"  # by which `reset_parameters` draws
        with_bias = [place for place, one in enumerate(biases) if one is not None]
        self._biased = {place: number for number, place in enumerate(with_bias)}
        self.bias = nn.ParameterList(
            [nn.Parameter(one.detach().clone()) for one in biases if one is not None]
        )
        self.runner = implementations.choose(implementation)
        self._members: list[Member] = []
        self._rebuild(kernel, configs)

    def _rebuild(self, kernel: FactorizedKernel, configs: Sequence[ConvConfig]) -> None:
        """Take a kernel, and make each convolution's plan for it."""
        cut = slice_layers(kernel.network, len(self.n_layers))
        indices = product(*(range(n) for n in self.n_layers))
        members = [
            Member(self, kernel, cut, index, config, self.runner)
            for index, config in zip(indices, configs, strict=True)
        ]
        for member, before in zip(members, self._members, strict=False):
            member.channels_last = before.channels_last
        self.weight, self._members = kernel, members

    def forward(self, x: Tensor, index: int | Sequence[int] = 0, output_size: Any = None) -> Tensor:
        """Run the convolution `index` on `x`, `(batch, in_channels, *size)`.

        `output_size` is for transposed ones. Raises as `FactorizedConv` does, and `IndexError`.
        """
        return self[index](x, output_size)  # type: ignore[no-any-return]

    def __getitem__(self, index: int | Sequence[int]) -> Member:
        """One of the convolutions; raises `IndexError` for an index that there is not."""
        given = tuple(index) if isinstance(index, Sequence) else (index,)
        if len(given) != len(self.n_layers) and len(given) == 1 and type(given[0]) is int:
            given = self._spread(given[0])
        good = len(given) == len(self.n_layers) and all(type(one) is int for one in given)
        if not good or any(not -n <= i < n for i, n in zip(given, self.n_layers, strict=True)):
            raise IndexError(f"index={index!r} is no layer of n_layers={self.n_layers}")
        return self._members[self._place(given)]

    def __len__(self) -> int:
        return prod(self.n_layers)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def bias_of(self, index: Sequence[int]) -> nn.Parameter | None:
        """The bias of one of the convolutions, where it has one; raises nothing.

        >>> layer = FactorizedConv(8, 4, 3, order=1, n_layers=2, bias=[True, False])
        >>> layer.bias_of((0,)).shape, layer.bias_of((1,))
        (torch.Size([4]), None)
        """
        place = self._place(index)
        found: nn.Parameter | None = None
        if place in self._biased:
            found = self.bias[self._biased[place]]
        return found

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the kernel and the biases anew, each convolution's as `nn.ConvNd` has them.

        Raises `RuntimeError`, of PyTorch's, for a generator on another device.
        """
        fan_in = self._members[0].config.fan_in
        self.weight.reset_parameters(1 / (3 * fan_in), generator, self.init)
        for one in self.bias:
            nn.init.uniform_(one, -(fan_in**-0.5), fan_in**-0.5, generator=generator)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; what was kept for eval is forgotten. Raises as `nn.Module`'s."""
        for member in self._members:
            member.eval_cache.clear()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for member in self._members:
            if member.order in LAID_OUT:
                probe = self.weight.factors[0].new_empty((1,) + (2,) * (member.order + 1))
                laid_out = fn(in_format(probe, member.channels_last))
                member.channels_last = is_channels_last(laid_out)
            member.eval_cache.clear()
        applied: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return applied

    def transduct(
        self,
        kernel_size: int,
        mode: int = 0,
        padding: int | None = None,
        stride: int = 1,
        dilation: int = 1,
        fine_tune_transduction_only: bool = False,
    ) -> Self:
        """Give all convolutions one more axis, as a `FactorizedConv`'s `transduct`; raises as it.

        >>> layer = FactorizedConv(4, 8, 3, padding=1, order=2, rank=4, n_layers=2)
        >>> layer.transduct(3)(torch.randn(1, 4, 5, 10, 10), 1).shape
        torch.Size([1, 8, 5, 10, 10])
        """
        size, axis = check_axis(kernel_size, mode, self._members[0].order)
        asked = (size, axis, padding, stride, dilation)
        configs = [stretched(member.config, *asked) for member in self]
        axis += len(self.n_layers)
        self._rebuild(transducted(self.weight, size, axis), configs)
        if fine_tune_transduction_only:
            freeze_others(self, self.weight, f"k{axis}")
        return self

    def _spread(self, flat: int) -> tuple[int, ...]:
        total = len(self)
        if not -total <= flat < total:
            return ()
        found: list[int] = []
        flat %= total
        for size in reversed(self.n_layers):
            found.insert(0, flat % size)
            flat //= size
        return tuple(found)

    def _place(self, index: Sequence[int]) -> int:
        place = 0
        for one, size in zip(index, self.n_layers, strict=True):
            place = place * size + one % size
        return place

    def extra_repr(self) -> str:
        """The numbers of layers, the rank, the format and the implementation; raises nothing.

        >>> FactorizedConv(8, 4, 3, order=1, n_layers=2, rank=2).extra_repr()
        "n_layers=(2,), rank=2, factorization='cp', implementation='factorized'"
        """
        kernel, runner = self.weight, self.runner
        return (
            f"n_layers={self.n_layers}, rank={kernel.rank}, factorization={kernel.choice.spelled}, "
            f"implementation={runner.spelled}"
        )
