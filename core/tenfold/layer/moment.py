"""What a convolution sees: the second moment of its input patches, streamed over batches.

With `M = Σ p pᵀ` over all patches `p`, a kernel's error costs the output exactly
`‖conv(x, K) − conv(x, K̂)‖² = tr((K − K̂) M (K − K̂)ᵀ)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from .arguments import check_batches, check_model, check_names, check_number, check_tensor
from .config import ConvConfig
from .convolve import prepare, tap
from .padding import pad
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
    def matrix(self) -> Tensor:
        """The sum over all patches, `(groups, in * k…, in * k…)` in float64.

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
            yield self._patches(images)

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
        rows = kernel.detach().to(self.matrix).reshape(groups, -1, self.matrix.shape[1])
        gap = rows - other.detach().to(self.matrix).reshape(rows.shape)
        energy = float(((rows @ self.matrix) * rows).sum())
        lost = float(((gap @ self.matrix) * gap).sum())
        return (max(lost, 0.0) / energy) ** 0.5 if energy > 0 else 0.0

    def _patches(self, x: Tensor) -> Tensor:
        """`(groups, in * k…, positions)`."""
        config, geometry = self.config, self.config.geometry
        x = x if x.dtype == torch.float64 else x.float()
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
    """`Σ p pᵀ` of patches `(groups, n, positions)`, in float64.

    Taken about their mean, which is often the most of them: in float32 its rounding would hide the
    directions in which there is little.
    """
    mean = patches.mean(2, keepdim=True)
    apart = patches - mean
    wide, left = mean.double(), apart.sum(2, keepdim=True, dtype=torch.float64)
    crossed = left @ wide.mT
    whole = wide @ (patches.shape[2] * wide.mT)
    return (apart @ apart.mT).double() + crossed + crossed.mT + whole


def check_moment(moment: Any) -> None:
    """Refuse what is no `Moment`, with a `TypeError`."""
    if moment is not None and not isinstance(moment, Moment):
        raise TypeError(f"moment={moment!r} must be a tenfold.Moment: measure_moments makes them")


def measure_moments(
    model: nn.Module, names: Sequence[str], batches: Iterable[Any]
) -> dict[str, Moment]:
    """Run `model` on each of `batches` and gather the moment of each named convolution.

    The model is run in eval mode without gradients, and left as it was. A batch is what the model
    takes: a tensor, or a tuple or list of arguments. To decompose in the norm of what a layer sees
    is Zhang et al. 2016, arXiv 1505.06798.

    Raises `ValueError` for one of `names` that the model has not, and as `Moment` does.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    >>> measure_moments(model, ["2"], [torch.randn(4, 3, 10, 10)])["2"].matrix.shape
    torch.Size([1, 72, 72])
    """
    known = dict(check_model("model", model).named_modules())
    check_batches("batches", batches)
    for name in check_names("names", names):
        if name not in known:
            raise ValueError(f"names has {name!r}, which the model has not: see named_modules()")
    layers = {name: known[name] for name in names}
    moments = {name: Moment(layer) for name, layer in layers.items()}
    handles = [
        layer.register_forward_pre_hook(lambda _, given, name=name: moments[name].update(given[0]))
        for name, layer in layers.items()
    ]
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            for batch in batches:
                model(*batch) if isinstance(batch, tuple | list) else model(batch)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return moments
