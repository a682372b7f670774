"""The builder: any factorization with any implementation, by name, as one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ..arguments import check_sizes
from ..plugin import Factorization, Implementation, Plan
from . import assembly, joining
from .assembly import Assembly
from .choosing import Choosing
from .config import ConvConfig
from .holding import hold
from .joining import Joined
from .kernel import FactorizedKernel
from .moment import Moment
from .plain_forms import PlainForms
from .reshaping import Reshaping
from .source import copy_state
from .spectral import check_init
from .words import refuse_unknown


class FactorizedConv(Joined, Reshaping, PlainForms, Choosing):
    """A convolution of any order whose kernel is a tensor network.

    Input `(batch, in_channels, *size)` or unbatched `(in_channels, *size)`, output likewise, as
    `nn.ConvNd`, whose positional arguments these are; of order 0 it is a linear layer, `(…, in)` to
    `(…, out)`. The kernel is drawn at random with the variance of `nn.ConvNd`'s.

    Args:
        order: the number of spatial axes; taken from `kernel_size` where that is a tuple.
        rank: `"same"` (no more parameters than the dense kernel), a float (that fraction of them,
            never more unless rank 1 already is), an int (every bond), a tuple (each bond),
            `Multiple(16, of=0.25)` (a budget, in multiples), or what a plugin's hook understands;
            in `from_conv` also `Error(0.1)` and `Energy(0.95)`. Ranks are clipped to what is exact.
        factorization: the format: an installed name (case does not matter), a class or an instance.
        implementation: the way of running it, likewise.
        transposed, output_padding: as `nn.ConvTransposeNd`.
        n_layers: a number, or several, makes a `JointConv` of as many convolutions; a list of
            strides, paddings, dilations, biases or padding modes has one for each.
        init: `"variance"`, or `"spectral"`: the balanced decomposition of a dense kernel drawn as
            `nn.ConvNd` draws it (Khodak et al. 2021, arXiv 2105.01029).
        generator: draws the numbers; `torch.manual_seed` decides them without it.

    Raises `ValueError` or `TypeError`, naming the argument and the remedy, for a bad one, and
    `PluginError` for a plugin that is asked for and broken.

    Kossaifi et al. 2020, "Factorized higher-order CNNs", arXiv 1906.06196.

    >>> layer = FactorizedConv(16, 32, 3, padding=1, order=2, rank=0.5, factorization="tucker")
    >>> layer(torch.randn(8, 16, 20, 20)).shape
    torch.Size([8, 32, 20, 20])
    >>> layer.order, layer.rank, layer.factorization, layer.implementation
    (2, (19, 9), 'tucker', 'factorized')
    >>> layer.reset_parameters()
    """

    init: str = "variance"  # by which `reset_parameters` draws

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        order: int | None = None,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "cp",
        implementation: str | Implementation | type[Implementation] = "factorized",
        transposed: bool = False,
        output_padding: int | Sequence[int] = 0,
        n_layers: None = None,  # a number makes a JointConv, by `Joined`
        init: str = "variance",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
        **unknown: NoReturn,
    ) -> None:
        refuse_unknown("FactorizedConv", unknown)
        check_init(init)
        config = ConvConfig.parse(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            order=order,
            transposed=transposed,
            output_padding=output_padding,
        )
        self._take(
            assembly.fresh(
                config,
                rank=rank,
                factorization=factorization,
                implementation=implementation,
                device=device,
                dtype=dtype,
                generator=generator,
            )
        )
        self.init = init
        self.reset_parameters(generator)

    @classmethod
    def from_conv(
        cls,
        conv: Any,
        *,
        rank: Any = "same",
        factorization: str | Factorization | type[Factorization] = "cp",
        implementation: str | Implementation | type[Implementation] = "factorized",
        decompose_weights: bool = True,
        decomposition_kwargs: Mapping[str, Any] | None = None,
        moment: Moment | None = None,
        generator: torch.Generator | None = None,
        **unknown: NoReturn,
    ) -> FactorizedConv:
        """Replace an `nn.ConvNd`, `nn.ConvTransposeNd` or `nn.Linear`, which stays untouched.

        The new layer has the same geometry, its own copy of the bias, and the source's dtype,
        device, memory format, training mode, `requires_grad` and hooks. The kernel is decomposed,
        or drawn at random where `decompose_weights` is False. A weight that PyTorch's hooks make
        (`weight_norm`, pruning) is that of the next call. The other arguments are those of
        `FactorizedConv`; `decomposition_kwargs` are the format's own options. With the `moment` of
        the source's inputs, ranks and factors are those for the error of the output, not the
        kernel's: on trained networks, several times less of it.

        Raises `ValueError` or `TypeError`, before anything is made, for a module that is no plain
        convolution, a lazy one that has no weight yet, a kernel with NaN or infinity, or a bad
        argument.

        >>> conv = nn.Conv2d(16, 32, 3, stride=(2, 1))
        >>> FactorizedConv.from_conv(conv, rank=4, factorization="cp")
        FactorizedConv(16, 32, (3, 3), stride=(2, 1), rank=4, factorization='cp')
        """
        refuse_unknown("FactorizedConv.from_conv", unknown)
        layer: FactorizedConv = cls.__new__(cls)
        layer._take(
            assembly.converted(
                conv,
                rank=rank,
                factorization=factorization,
                implementation=implementation,
                decompose_weights=decompose_weights,
                decomposition_kwargs=decomposition_kwargs,
                moment=moment,
                generator=generator,
            )
        )
        copy_state(conv, layer)
        return layer

    @classmethod
    def from_factorization(
        cls,
        kernel: FactorizedKernel,
        *,
        implementation: str | Implementation | type[Implementation] = "factorized",
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
        transposed: bool = False,
        output_padding: int | Sequence[int] = 0,
        n_layers: int | Sequence[int] | None = None,
    ) -> FactorizedConv:
        """Build a layer around `kernel`, which becomes its `weight` and is not copied.

        `bias` is `(out,)` and is copied; with `n_layers` a `JointConv` is made, and it may be a
        list. The others are those of `FactorizedConv`. Raises `ValueError` or `TypeError` for a bad
        one.

        >>> kernel = FactorizedKernel.new((32, 16, 3, 3), rank=8)
        >>> FactorizedConv.from_factorization(kernel, padding=1).weight is kernel
        True
        """
        geometry: dict[str, Any] = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "padding_mode": padding_mode,
            "transposed": transposed,
            "output_padding": output_padding,
        }
        if n_layers is not None:
            made = joining.around(cls, kernel, n_layers, implementation, bias, **geometry)
            return made  # type: ignore[return-value]
        layer: FactorizedConv = cls.__new__(cls)
        around = assembly.around(kernel, implementation=implementation, bias=bias, **geometry)
        layer._take(around)
        return layer

    def _take(self, parts: Assembly) -> None:
        super().__init__()
        self.config = config = parts.config
        self.runner = parts.runner
        self.sides = config.sides
        self.channels_last = False
        hold(self, parts.kernel, parts.plan)
        bias = None if parts.bias is None else nn.Parameter(parts.bias.detach().clone())
        self.register_parameter("bias", bias)

    def macs(self, size: Sequence[int]) -> int:
        """Multiply-accumulates for one input of spatial size `size`.

        Raises `ValueError` where the implementation runs code of its own, which is not counted, and
        `ValueError` or `TypeError` for a bad size.

        >>> layer = FactorizedConv(8, 8, 3, order=2, rank=4, factorization="tucker")
        >>> layer.macs((12, 12)) == 8 * 4 * 12**2 + 4 * 4 * 9 * 10**2 + 4 * 8 * 10**2
        True
        """
        size = check_sizes("size", size, self.config.order)
        padded = size
        if self.config.sides is not None:
            padded = tuple(s + sum(side) for s, side in zip(size, self.config.sides, strict=True))
        if any(s < 1 for s in self.config.geometry.output_size(padded)):
            raise ValueError(f"size={size!r} is smaller than the kernel: no output is left")
        counted = self.plan.macs(padded) if isinstance(self.plan, Plan) else None
        if counted is None:
            raise ValueError(f"implementation={self.runner.spelled} does not count its MACs")
        return counted

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the kernel and the bias anew, as `nn.ConvNd` has them, or by the layer's `init`.

        Raises `RuntimeError`, of PyTorch's, for a generator on another device.
        """
        fan_in = self.config.fan_in
        self.weight.reset_parameters(1 / (3 * fan_in), generator, self.init)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -(fan_in**-0.5), fan_in**-0.5, generator=generator)
