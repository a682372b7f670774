"""Named tensors that are multiplied and summed over, and whose axes are named modes too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Tensor

from ..network import Modes
from .planning import contracted


@dataclass(eq=False)
class Term:
    """One product of `tensors`, each with its modes; `axes` are the modes that stay.

    An axis is several modes where it is split, the first the slowest, and none where its size is 1.
    Every other mode is summed over. A mode may be in any number of the tensors.
    """

    modes: tuple[Modes, ...]
    tensors: tuple[Tensor, ...]
    axes: tuple[Modes, ...]

    sizes: dict[str, int] = field(init=False)  # of each mode
    shape: tuple[int, ...] = field(init=False)  # the size of each axis

    def __post_init__(self) -> None:
        pairs = zip(self.modes, self.tensors, strict=True)
        self.sizes = {mode: n for some, one in pairs for mode, n in zip(some, one.shape)}  # noqa: B905
        self.shape = tuple([prod([self.sizes[mode] for mode in axis]) for axis in self.axes])

    def whole(self) -> Tensor:
        """The dense tensor, of shape `shape`.

        One that is made has its first two axes last in memory, but where that costs a copy: a
        spectral convolution multiplies matrices over them, one at each frequency.
        """
        last = 2 if len(self.tensors) > 1 and len(self.axes) > 2 else 0
        axes = (*self.axes[last:], *self.axes[:last])
        made = self.contracted(tuple([mode for axis in axes for mode in axis]))
        shape = (*self.shape[last:], *self.shape[:last])
        made = made if made.shape == shape else made.reshape(shape)
        left = len(axes) - last
        return made.permute(*range(left, len(axes)), *range(left)) if last else made

    def contracted(self, output: Modes) -> Tensor:
        """What the tensors contract to, with the modes `output`."""
        if self.modes == (output,):
            return self.tensors[0]
        return contracted(self.modes, self.tensors, output)

    def scaled(self, by: Tensor | complex) -> Term:
        """So many times this one."""
        first, *rest = self.tensors
        return replace(self, tensors=(first * by, *rest))

    def conjugate(self) -> Term:
        """Its complex conjugate."""
        return replace(self, tensors=tuple(one.conj() for one in self.tensors))

    def permuted(self, order: tuple[int, ...]) -> Term:
        """Its axes in another order."""
        return replace(self, axes=tuple(self.axes[place] for place in order))

    def summed(self, places: frozenset[int]) -> Term:
        """Summed over the axes at these places."""
        gone = {mode for place in places for mode in self.axes[place]}
        held = [mode for some in self.modes for mode in some]
        alone = {mode for mode in gone if held.count(mode) == 1}
        parts = [_summed(*pair, alone) for pair in zip(self.modes, self.tensors, strict=True)]
        axes = tuple(axis for place, axis in enumerate(self.axes) if place not in places)
        return Term(tuple(m for m, _ in parts), tuple(t for _, t in parts), axes)

    def renamed(self, names: Mapping[str, str]) -> Term:
        """With other names of modes; those that are not among `names` stay."""

        def of(some: tuple[Modes, ...]) -> tuple[Modes, ...]:
            return tuple(tuple(names.get(mode, mode) for mode in modes) for modes in some)

        return Term(of(self.modes), self.tensors, of(self.axes))


def _summed(modes: Modes, tensor: Tensor, gone: set[str]) -> tuple[Modes, Tensor]:
    dims = [place for place, mode in enumerate(modes) if mode in gone]
    if not dims:
        return modes, tensor
    return tuple(mode for mode in modes if mode not in gone), torch.sum(tensor, dims)
