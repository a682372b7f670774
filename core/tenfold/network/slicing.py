"""One layer of a joint kernel: its first spatial modes at an index, and the others renamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from torch import Tensor

from .added import KernelSum, parts_of, terms_of
from .contraction import Contraction, Modes, plan_contraction
from .network import KernelNetwork, spatial_modes


@dataclass(frozen=True)
class Slice:
    """What is left of a network at an index of its first modes of space, and how it is made.

    A factor of which only bonds are left is merged into a neighbour, so that a format's joint
    network of a higher order becomes, as a rule, that format's own.
    """

    joint: KernelNetwork
    network: KernelNetwork
    parts: tuple[_Part, ...]  # of each term

    def __call__(self, factors: Sequence[Tensor], index: Sequence[int]) -> list[Tensor]:
        """The factors of the layer `index`, differentiably, from those of all."""
        pairs = zip(self.parts, parts_of(self.joint, factors), strict=True)
        return [one for part, mine in pairs for one in part(mine, index)]


@dataclass(frozen=True)
class _Part:
    network: KernelNetwork
    axes: tuple[tuple[tuple[int, int], ...], ...]  # of each factor: an axis, and which number of it
    groups: tuple[tuple[int, ...], ...]  # the factors that each new one is contracted of
    contractions: tuple[Contraction, ...]

    def __call__(self, factors: Sequence[Tensor], index: Sequence[int]) -> list[Tensor]:
        cut = []
        for factor, axes in zip(factors, self.axes, strict=True):
            for axis, place in reversed(axes):
                factor = factor.select(axis, index[place])
            cut.append(factor)
        pairs = zip(self.groups, self.contractions, strict=True)
        return [contraction([cut[i] for i in group]) for group, contraction in pairs]


def slice_layers(joint: KernelNetwork, count: int) -> Slice:
    """Fix the first `count` spatial modes of a network, which number its layers."""
    parts = tuple(_part(term, count) for term in terms_of(joint))
    if isinstance(joint, KernelSum):
        return Slice(joint, KernelSum.of([part.network for part in parts]), parts)
    return Slice(joint, parts[0].network, parts)


def _part(joint: KernelNetwork, count: int) -> _Part:
    layers = spatial_modes(count)
    names = {f"k{axis}": f"k{axis - count}" for axis in range(count, joint.order)}
    sizes = {names.get(m, m): size for m, size in joint.sizes.items() if m not in layers}
    axes = tuple(
        tuple((axis, layers.index(mode)) for axis, mode in enumerate(modes) if mode in layers)
        for modes in joint.factors
    )
    cut = [tuple(names.get(m, m) for m in modes if m not in layers) for modes in joint.factors]
    opens = {names.get(mode, mode) for mode in joint.open_modes if mode not in layers}
    held = opens - {"group"}
    modes = list(cut)
    groups: list[tuple[int, ...]] = [(index,) for index in range(len(cut))]
    while True:
        bare = [place for place, one in enumerate(modes) if not held & set(one)]
        if not bare:
            break
        place = bare[0]
        near = [p for p, one in enumerate(modes) if p != place and set(one) & set(modes[place])]
        constant = set(joint.constants)
        target = min(
            near, key=lambda p: (constant >= set(groups[p]), _size(modes, sizes, place, p))
        )
        modes[target] = _merged(modes, place, target, opens)
        groups[target] = (*groups[target], *groups[place])
        del modes[place], groups[place]
    constants = tuple(p for p, group in enumerate(groups) if set(group) <= set(joint.constants))
    network = replace(joint, factors=tuple(modes), sizes=sizes, constants=constants)
    contractions = tuple(
        plan_contraction([cut[index] for index in group], wanted, sizes)
        for group, wanted in zip(groups, modes, strict=True)
    )
    return _Part(network, axes, tuple(groups), contractions)


def _merged(modes: Sequence[Modes], place: int, target: int, opens: set[str]) -> Modes:
    """The modes of two factors made one, without the bonds that only they share."""
    rest = [one for other, one in enumerate(modes) if other not in (place, target)]
    kept = opens.union(*rest)
    both = dict.fromkeys((*modes[target], *modes[place]))
    return tuple(mode for mode in both if mode in kept)


def _size(modes: Sequence[Modes], sizes: dict[str, int], place: int, target: int) -> int:
    return prod(sizes[mode] for mode in {*modes[place], *modes[target]})
