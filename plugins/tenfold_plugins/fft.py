"""Run a kernel as one product in the frequency domain: for large kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import log2, prod, tau

import torch
from torch import Tensor
from torch.nn import functional as F

from tenfold import Implementation
from tenfold.network import Contraction, Geometry, KernelNetwork, plan_contraction
from tenfold.plugin import Plan, Prepared

ORDERS = (1, 2, 3)


class FFT(Implementation):
    """By the convolution theorem: the cost does not grow with the kernel's size.

    Mathieu et al. 2013, arXiv 1312.5851. A kernel of any format stays factorized: its spectrum is
    the same network with one more factor for each axis, the Fourier matrix `(k, f)`. It pays for
    depthwise kernels of about 31×31 and wider, and for narrower ones that mix channels; not for
    3×3.
    """

    def plan(self, network: KernelNetwork, geometry: Geometry) -> FourierConvolution:
        instead = "use implementation='factorized'"
        if geometry.order not in ORDERS:
            raise ValueError(f"it has orders 1 to 3, and this is order {geometry.order}: {instead}")
        if geometry.transposed:
            raise ValueError(f"it has no transposed convolutions: {instead}")
        if set(geometry.kernel_size) == {1}:
            raise ValueError(f"a kernel of one tap has nothing to transform: {instead}")
        return FourierConvolution.of(network, geometry)


@dataclass(frozen=True)
class FourierConvolution(Plan):
    """The spectra of the input and of the kernel, multiplied, on `axes` of more than one tap.

    `product` takes the input's spectrum, the factors and the Fourier matrices of those axes. Its
    order is chosen for one image, twice as wide as the kernel.
    """

    network: KernelNetwork
    geometry: Geometry
    axes: tuple[int, ...]
    product: Contraction

    @classmethod
    def of(cls, network: KernelNetwork, geometry: Geometry) -> FourierConvolution:
        axes = tuple(axis for axis, size in enumerate(geometry.kernel_size) if size > 1)
        wide = [2 * size for size in geometry.kernel_size]
        return cls(network, geometry, axes, spectral_product(network, axes, wide))

    def __call__(self, x: Tensor, factors: Sequence[Tensor], bias: Tensor | None) -> Tensor:
        if x.shape[0] == 0:  # which the transform refuses
            one = torch.cat([x, x.new_zeros(1, *x.shape[1:])])  # and gradients are those of `x`
            return self(one, factors, bias)[:0]
        geometry, order, network = self.geometry, self.geometry.order, self.network
        padded = [s + 2 * p for s, p in zip(x.shape[2:], geometry.padding, strict=True)]
        geometry.check_size(x.shape[2:])
        cyclic = [fast_length(n) if axis in self.axes else n for axis, n in enumerate(padded)]
        sides = [
            (p, n - s - p) for s, p, n in zip(x.shape[2:], geometry.padding, cyclic, strict=True)
        ]
        real = torch.promote_types(x.dtype, torch.float32)  # half precision has no transform
        wide = F.pad(x.to(real), [side for pair in reversed(sides) for side in pair])
        wide = wide.unflatten(1, (network.groups, *(network.sizes[mode] for mode in network.ins)))
        dims = tuple(axis - order for axis in self.axes)
        forth, back = torch.fft.rfftn, torch.fft.irfftn
        if real.is_complex:
            forth, back = torch.fft.fftn, torch.fft.ifftn
        spectrum = forth(wide, dim=dims)
        waves = [
            self.wave(axis, cyclic[axis], spectrum, real.is_complex).unflatten(
                0, [network.sizes[mode] for mode in network.axes[axis]]
            )
            for axis in self.axes
        ]
        parts = [*(factor.to(spectrum.dtype) for factor in factors), *waves]
        product = self.product([spectrum, *parts])
        y = back(product, [cyclic[axis] for axis in self.axes], dim=dims)
        seen = [
            slice(0, n - reach + 1, stride)
            for n, reach, stride in zip(padded, geometry.reach, geometry.stride, strict=True)
        ]
        y = y.flatten(1, -order - 1)[(..., *seen)]
        if bias is not None:
            y = y + bias.reshape(-1, *(1,) * order)
        result: Tensor = y.to(x.dtype).contiguous()
        return result

    def prepare(self, factors: Sequence[Tensor], bias: Tensor | None) -> Prepared:
        return partial(self._on, factors, bias)

    def _on(self, factors: Sequence[Tensor], bias: Tensor | None, x: Tensor) -> Tensor:
        return self(x, factors, bias)

    def macs(self, size: Sequence[int]) -> int:
        """Four real products for a complex one, and `N log₂ N` for each transform of a channel."""
        pads = self.geometry.padding
        lengths = [s + 2 * p for s, p in zip(size, pads, strict=True)]
        for axis in self.axes:
            lengths[axis] = fast_length(lengths[axis])
        points, channels = prod(lengths), self.network.groups * self.network.shape[1]
        turned = log2(prod(lengths[axis] for axis in self.axes)) * points
        lengths[self.axes[-1]] = lengths[self.axes[-1]] // 2 + 1  # half the spectrum of a real one
        product = spectral_product(self.network, self.axes, lengths)
        return 4 * product.macs + int((channels + self.network.shape[0]) * turned)

    def wave(self, axis: int, length: int, like: Tensor, whole: bool) -> Tensor:
        """The Fourier matrix `(k, f)` of an axis: half of it for the last of a real input.

        Conjugate, since PyTorch's convolutions correlate; its angles are reduced in whole numbers,
        so that they are exact to rounding.
        """
        half = axis == self.axes[-1] and not whole
        frequencies = length // 2 + 1 if half else length
        taps = torch.arange(self.geometry.kernel_size[axis], device=like.device)
        places = self.geometry.dilation[axis] * taps
        turns = places[:, None] * torch.arange(frequencies, device=like.device) % length
        angles = turns.to(like.real.dtype) * (tau / length)
        return torch.complex(angles.cos(), angles.sin())


def spectral_product(
    network: KernelNetwork, axes: Sequence[int], lengths: Sequence[int]
) -> Contraction:
    """Plan the product, with a mode for an axis's frequency, or position where one tap is there.

    The names have a space, which no bond's has.
    """
    batch, *positions = ("the batch", *(f"frequency {axis}" for axis in range(network.order)))
    sizes = {batch: 1, "group": 1, **network.sizes, **dict(zip(positions, lengths, strict=True))}
    inputs = [(batch, "group", *network.ins, *positions), *network.factors]
    inputs += [(*network.axes[axis], positions[axis]) for axis in axes]
    return plan_contraction(inputs, (batch, "group", *network.outs, *positions), sizes)


def fast_length(length: int) -> int:
    """The least length from `length` on whose only factors are 2, 3, 5 and 7.

    While compiling or exporting it is `length` itself, which then may vary.
    """
    if torch.compiler.is_compiling():
        return length
    while True:
        rest = length
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
