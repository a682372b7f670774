"""What a convolution sees: the second moment of its input patches, streamed over batches.

With `M = Σ p pᴴ` over all patches `p`, a kernel's error costs the output exactly
`‖conv(x, K) − conv(x, K̂)‖² = tr((K − K̂) M (K − K̂)ᴴ)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..algebra import on_one_thread, symmetric_product
from ..arguments import check_number, check_tensor
from ..run import pad, prepare, tap
from .config import ConvConfig
from .source import read_config

CHUNK = 2**23  # elements of the patches that are held at a time: 32 MiB in float32


class Moment:
    """The second moment of a convolution's input patches.

    `conv` is an `nn.ConvNd`, `nn.ConvTransposeNd` or `nn.Linear`, whose geometry counts, not its
    weight. `update` adds a batch; patches are made a few images at a time, and summed in float64.

    Raises as `FactorizedConv.from_conv` does for what is no convolution.

    >>> conv = nn.Conv2d(3, 8, 3, padding=1)
    >>> moment = Moment(conv)
    >>> moment.update(torch.randn(16, 3, 10, 10))
    >>> moment.matrix.shape, moment.patches
    (torch.Size([1, 27, 27]), 1600)
    >>> sum(patches.shape[2] for patches in moment.patches_of(torch.randn(2, 3, 10, 10)))
    200
    >>> moment.output_error(conv.weight, 0.9 * conv.weight) - 0.1 < 1e-6
    True
    """

    def __init__(self, conv: nn.Module) -> None:
        self.config: ConvConfig = read_config(conv)
        self.patches = 0
        self._sum: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the kernels it is for, `(out, in/groups, *k)`."""
        return self.config.shape

    @property
    def matrix(self) -> Tensor:
        """The sum over all patches, `(groups, in * k…, in * k…)` in float64, or complex128.

        Rows are in the order of a kernel `(out, in/groups, *k)` flattened. Raises `ValueError`
        before the first update.
        """
        if self._sum is None:
            raise ValueError("the moment has seen no input yet: call update(x)")
        return self._sum

    @torch.no_grad()
    def update(
        self, x: Tensor, share: float = 1.0, generator: torch.Generator | None = None
    ) -> None:
        """Add the patches of a batch `(batch, in_channels, *size)`; order 0 takes `(…, in)`.

        With a `share` below 1 only so many of them, drawn at random. Raises `ValueError` for
        another shape, and for NaN or infinity.
        """
        check_number("share", share)
        if not 0 < share <= 1:
            raise ValueError(f"share={share!r} must be above 0 and at most 1")
        for patches in self.patches_of(x):
            if share < 1:
                drawn = torch.rand(patches.shape[2], generator=generator) < share
                patches = patches[:, :, drawn.to(patches.device)]
            added = products(patches)
            self._sum = added if self._sum is None else self._sum + added
            self.patches += patches.shape[2]

    @torch.no_grad()
    def patches_of(self, x: Tensor) -> Iterator[Tensor]:
        """The patches of a batch, a few images at a time, `(groups, in * k…, positions)`.

        Each has the images' output positions in order. Raises `ValueError` or `TypeError` as
        `update` does.
        """
        config = self.config
        if check_tensor("input", x).is_meta:
            raise ValueError("input on meta has no values: give a batch of real ones")
        if config.order == 0 and x.dim() > 0:
            x = x.reshape(x.numel() // max(1, x.shape[-1]), x.shape[-1])
        if x.dim() != config.order + 2 or x.shape[1] != config.in_channels:
            wanted = ", ".join(map(str, (config.in_channels, *("size",) * config.order)))
            raise ValueError(f"input of shape {tuple(x.shape)} must have (batch, {wanted})")
        if not bool(torch.isfinite(x).all()):
            raise ValueError("the input has NaN or infinite values: leave that batch out")
        size = config.geometry.output_size(x.shape[2:])
        per_image = config.in_channels * prod(config.kernel_size) * max(1, prod(size))
        for images in x.detach().split(max(1, CHUNK // max(1, per_image))):
            yield unfold(config, images)

    def output_error(self, kernel: Tensor, other: Tensor) -> float:
        """`‖conv(x, K) − conv(x, K̂)‖ / ‖conv(x, K)‖` over all that was seen, without a bias.

        Both kernels are `(out, in/groups, *k)`; 0 where the output is zero. Raises `ValueError`
        for other shapes, and before the first update.
        """
        for name, given in (("kernel", kernel), ("other", other)):
            if tuple(check_tensor(name, given).shape) != self.config.shape:
                raise ValueError(
                    f"{name} of shape {tuple(given.shape)} must have {self.config.shape}"
                )
        groups = self.config.groups
        dtype = torch.promote_types(kernel.dtype, self.matrix.dtype)
        like = self.matrix.new_empty(0, dtype=dtype)
        rows = kernel.detach().to(like).reshape(groups, -1, self.matrix.shape[1])
        gap = rows - other.detach().to(like).reshape(rows.shape)
        energy, lost = (
            float(((one @ self.matrix.to(like)) * one.conj()).sum().real) for one in (rows, gap)
        )
        return (max(lost, 0.0) / energy) ** 0.5 if energy > 0 else 0.0


def unfold(config: ConvConfig, x: Tensor) -> Tensor:
    """The patches of a batch, `(groups, in * k…, positions)`: of each image its positions."""
    geometry = config.geometry
    exact = x.dtype in (torch.float64, torch.complex64, torch.complex128)
    x = x if exact else x.float()
    if config.sides is not None:
        x = pad(x, config.sides, config.padding_mode)
    for axis in range(config.order):
        x = prepare(x, axis + 2, geometry, axis)
    taps = []
    for place in product(*map(range, config.kernel_size)):
        seen = x
        for axis, index in enumerate(place):
            seen = tap(seen, axis + 2, geometry, axis, index)
        taps.append(seen.unflatten(1, (config.groups, -1)))
    stacked = torch.stack(taps, 3)  # (batch, groups, in, taps, *size)
    columns = stacked.reshape(*stacked.shape[:4], prod(stacked.shape[4:]))
    return columns.permute(1, 2, 3, 0, 4).flatten(3).flatten(1, 2)


def products(patches: Tensor) -> Tensor:
    """`Σ p pᴴ` of patches `(groups, n, positions)`, in float64 or complex128.

    Taken about their mean, which is often the most of them: in float32 its rounding would hide the
    directions in which there is little.
    """
    with on_one_thread(patches.numel()):
        mean = patches.mean(2, keepdim=True)
        apart = patches - mean
        dtype = torch.promote_types(patches.dtype, torch.float64)
        wide, left = mean.to(dtype), apart.sum(2, keepdim=True, dtype=dtype)
        half = left + patches.shape[2] / 2 * wide
        around = torch.cat([half, wide], 2), torch.cat([wide, half], 2)  # two outer products
        return torch.baddbmm(symmetric_product(apart).to(dtype), around[0], around[1].mH)


def check_moment(moment: Any) -> None:
    """Refuse what is no `Moment`, with a `TypeError`."""
    if moment is not None and not isinstance(moment, Moment):
        raise TypeError(f"moment={moment!r} must be a tenfold.Moment: measure_moments makes them")
