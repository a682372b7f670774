"""The layers by TensorLy-Torch's names, with its arguments in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from .. import layer as ours
from ..plugin import factorizations
from ..tensor import TensorParameters, keep_whole
from .spelling import is_undecomposed, options_of, spelled


class FactorizedConv(ours.FactorizedConv):
    """`tenfold.FactorizedConv` with TensorLy-Torch's arguments, in their order and by default.

    `bias` or `has_bias` asks for a bias. `fixed_rank_modes` are axes of the kernel that keep their
    full rank; `"spatial"` ones do in any case. Raises as `tenfold.FactorizedConv`.
    """

    def __new__(cls, *given: Any, n_layers: Any = 1, **named: Any) -> Any:
        if n_layers in (None, 1):
            return super().__new__(cls)
        bound = signature(cls.__init__).bind(None, *given, **named).arguments
        bound.pop("self")
        return ours.FactorizedConv(**arguments(**bound), n_layers=n_layers)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        order: int | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        bias: bool = False,
        has_bias: Any = False,
        n_layers: int = 1,
        factorization: Any = "cp",
        rank: Any = "same",
        implementation: Any = "factorized",
        fixed_rank_modes: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_single(n_layers)
        given = arguments(
            in_channels,
            out_channels,
            kernel_size,
            order,
            stride,
            padding,
            dilation,
            bias,
            has_bias,
            factorization,
            rank,
            implementation,
            fixed_rank_modes,
            device,
            dtype,
        )
        super().__init__(**given)

    @classmethod
    def from_conv_list(  # type: ignore[override]
        cls,
        conv_list: Any,
        rank: Any = "same",
        implementation: Any = "reconstructed",
        factorization: Any = "cp",
        decompose_weights: bool = True,
        decomposition_kwargs: Mapping[str, Any] | None = None,
    ) -> ours.JointConv:
        """Join convolutions of one shape. Raises as `tenfold.FactorizedConv.from_conv_list`."""
        drawn = not decompose_weights or is_undecomposed(decomposition_kwargs)
        made = ours.FactorizedConv.from_conv_list(
            conv_list,
            rank=rank,
            factorization=spelled(factorization)[0],
            implementation=implementation,
            decomposition_kwargs=None if drawn else options_of(decomposition_kwargs),
        )
        if drawn:
            made.reset_parameters()
        return made

    def transduct(
        self,
        kernel_size: int,
        mode: int = 0,
        padding: int | None = 0,
        stride: int = 1,
        dilation: int = 1,
        fine_tune_transduction_only: bool = True,
    ) -> Any:
        """One more axis, all else frozen by default; raises as `tenfold.FactorizedConv`'s."""
        return super().transduct(
            kernel_size, mode, padding, stride, dilation, fine_tune_transduction_only
        )

    @classmethod
    def from_conv(  # type: ignore[override]
        cls,
        conv_layer: Any,
        rank: Any = "same",
        implementation: Any = "reconstructed",
        factorization: Any = "CP",
        decompose_weights: bool = True,
        decomposition_kwargs: Mapping[str, Any] | None = None,
        fixed_rank_modes: Any = None,
        has_bias: bool | None = None,
        n_layers: int = 1,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> FactorizedConv:
        """Replace an `nn.ConvNd`, whose bias it has; `has_bias` may say so again.

        `decomposition_kwargs` are TensorLy's: `n_iter_max` and `tol` are the format's `sweeps` and
        `tolerance`; `{"init": "random", "n_iter_max": 0}` leaves the kernel drawn at random, as
        `decompose_weights=False` does. Raises as `tenfold.FactorizedConv.from_conv`.
        """
        check_single(n_layers)
        name, _ = spelled(factorization)
        bias = getattr(conv_layer, "bias", None) is not None
        if has_bias is not None and bool(has_bias) != bias:
            raise ValueError(
                f"has_bias={has_bias} of a convolution {'with' if bias else 'without'} one: leave "
                "it out, or change the convolution"
            )
        weight = getattr(conv_layer, "weight", None)
        shape = tuple(weight.shape) if isinstance(weight, Tensor) else ()
        drawn = not decompose_weights or is_undecomposed(decomposition_kwargs)
        layer = super().from_conv(
            conv_layer,
            rank=fixed(name, shape, rank, fixed_rank_modes),
            factorization=name,
            implementation=implementation,
            decompose_weights=not drawn,
            decomposition_kwargs=None if drawn else options_of(decomposition_kwargs),
        )
        assert isinstance(layer, cls)
        return layer.to(device=device, dtype=dtype)

    @classmethod
    def from_factorization(  # type: ignore[override]
        cls,
        factorization: Any,
        implementation: Any = "factorized",
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        bias: Tensor | None = None,
        n_layers: int = 1,
    ) -> FactorizedConv:
        """Build a layer on the factors of a tensor, `(out, in, *k)`, of a train `(in, *k, out)`.

        `bias` is `(out,)`. Raises `TypeError` for what is no factorized tensor.
        """
        check_single(n_layers)
        kernel = factorization
        if isinstance(kernel, TensorParameters):
            kernel = ours.FactorizedKernel(kernel.network, tuple(kernel.tensors), kernel.choice)
        layer = super().from_factorization(
            kernel,
            implementation=implementation,
            bias=bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
        assert isinstance(layer, cls)
        return layer


def arguments(
    in_channels: int,
    out_channels: int,
    kernel_size: int | Sequence[int],
    order: int | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    bias: bool = False,
    has_bias: Any = False,
    factorization: Any = "cp",
    rank: Any = "same",
    implementation: Any = "factorized",
    fixed_rank_modes: Any = None,
    device: Any = None,
    dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    """The arguments of a layer as `tenfold.FactorizedConv` takes them."""
    name, _ = spelled(factorization)
    sizes = (kernel_size,) * (order or 0) if isinstance(kernel_size, int) else tuple(kernel_size)
    shape = (out_channels, in_channels, *sizes)
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "kernel_size": kernel_size,
        "order": order,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "bias": list(has_bias) if isinstance(has_bias, list | tuple) else bool(bias or has_bias),
        "rank": fixed(name, shape, rank, fixed_rank_modes),
        "factorization": name,
        "implementation": implementation,
        "device": device,
        "dtype": dtype,
    }


def check_single(n_layers: Any) -> None:
    """Refuse joint layers, with a `ValueError`."""
    if n_layers != 1:
        raise ValueError(f"n_layers={n_layers!r} must be 1 here: join by from_conv_list")


def fixed(name: Any, shape: tuple[int, ...], rank: Any, modes: Any) -> Any:
    """A request whose modes keep their full rank; raises `ValueError` for what are no axes."""
    if modes is None or modes is False or modes == "spatial" or not shape:
        return rank
    if isinstance(modes, str):
        raise ValueError(f"fixed_rank_modes={modes!r} must be 'spatial' or axes of the kernel")
    return keep_whole(factorizations.choose(name).plugin, shape, rank, modes)
