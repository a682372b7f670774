"""A convolution kernel as a tensor network: small factors whose modes are named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from numbers import Integral

from torch import SymInt, Tensor

from .contraction import Contraction, Modes, check_modes, plan_contraction

GROUP, OUT, IN = "group", "out", "in"


def spatial_modes(order: int) -> Modes:
    """The names of a kernel's spatial modes: `("k0", …)`."""
    return tuple(f"k{axis}" for axis in range(order))


def is_open(mode: str) -> bool:
    """Whether it is the name of an open mode, `out`, `in` or `k0`, or of a part of one: `out.1`."""
    name, _, part = mode.partition(".")
    known = name in (OUT, IN) or (name[:1] == "k" and name[1:].isdecimal())
    return known and (part.isdecimal() or mode == name)


def opens_of(factors: Iterable[Modes]) -> Modes:
    """The open modes of some factors, in the order of a kernel's axes."""
    names = {mode for factor in factors for mode in factor if is_open(mode)}
    return tuple(sorted(names, key=_place))


def _place(mode: str) -> tuple[int, int]:
    name, _, part = mode.partition(".")
    return (-2 if name == OUT else -1 if name == IN else int(name[1:]), int(part or 0))


def _parts(name: str, sizes: Mapping[str, int]) -> Modes:
    """The modes that a mode is split into; itself where it is whole."""
    count = 0
    while f"{name}.{count}" in sizes:
        count += 1
    return tuple(f"{name}.{part}" for part in range(count)) or (name,)


@dataclass(frozen=True)
class KernelNetwork:
    """The structure of a factorized kernel, without the numbers.

    `factors` holds each factor's mode names and `sizes` every mode's size. The open modes are
    `out`, `in` and `k0` to `k<order-1>`, and `group` where the kernel has groups (then `out` and
    `in` are those of one group). Each but `group` may be split: into `out.0`, `out.1` and so on,
    the first the slowest. Every other name is a bond, which at least two factors share and which is
    summed over.

    `constants` are the indices of the factors that the format fixes, which are no parameters.

    Raises `ValueError` where that does not hold, and `TypeError` for what is no names or sizes.

    >>> sizes = {"out": 8, "in": 4, "k0": 3, "r": 2}
    >>> network = KernelNetwork((("in", "k0", "r"), ("r", "out")), sizes)
    >>> network.order, network.groups, network.spatial, network.open_modes, network.bonds
    (1, 1, ('k0',), ('out', 'in', 'k0'), ('r',))
    >>> network.outs, network.ins, network.leaving, network.entering
    (('out',), ('in',), ('out',), ('in',))
    >>> network.axes, network.opens
    ((('k0',),), {'out': 8, 'in': 4, 'k0': 3})
    >>> network.shapes, network.numel, network.shape, network.free
    (((4, 3, 2), (2, 8)), 40, (8, 4, 3), (0, 1))
    >>> network.to_tensor([torch.randn(4, 3, 2), torch.randn(2, 8)]).shape
    torch.Size([8, 4, 3])
    >>> network.whole([torch.randn(4, 3, 2), torch.randn(2, 8)]).shape
    torch.Size([8, 4, 3])
    >>> whole = network.contraction([0, 1], ("in", "out", "k0"))
    >>> whole([torch.randn(4, 3, 2), torch.randn(2, 8)]).shape
    torch.Size([4, 8, 3])
    >>> network.whole.macs
    192
    """

    factors: tuple[Modes, ...]
    sizes: Mapping[str, int]
    constants: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_modes("factors", self.factors)
        if not isinstance(self.sizes, Mapping):
            raise TypeError(f"sizes={type(self.sizes).__name__} must map each mode to its size")
        names = [mode for factor in self.factors for mode in factor]
        for factor in self.factors:
            if len(set(factor)) < len(factor):
                raise ValueError(f"factor {factor} has a mode twice: a factor's modes differ")
        for mode in self.open_modes:
            if mode not in names:
                raise ValueError(
                    f"no factor has the open mode {mode!r}: each must be in one of factors"
                )
        for bond in self.bonds:
            if names.count(bond) < 2:
                raise ValueError(
                    f"mode {bond!r} is in one factor only: a bond joins two or more; "
                    f"the open modes, by sizes, are {', '.join(self.open_modes)}"
                )
        if not set(self.constants) <= set(range(len(self.factors))):
            raise ValueError(f"constants={self.constants} must be indices of its factors")
        if len(self.free) == 0:
            raise ValueError("every factor is constant: nothing is left to learn")
        for mode in names:
            size = self.sizes.get(mode)
            if not isinstance(size, Integral | SymInt) or size < 1:
                raise ValueError(
                    f"mode {mode!r} of factors has no positive size in sizes={dict(self.sizes)}"
                )

    @cached_property
    def order(self) -> int:
        """The number of spatial axes."""
        order = 0
        while f"k{order}" in self.sizes or f"k{order}.0" in self.sizes:
            order += 1
        return order

    @property
    def groups(self) -> int:
        """The number of groups, the size of the mode `group`; 1 without one."""
        return self.sizes.get(GROUP, 1)

    @cached_property
    def spatial(self) -> Modes:
        """The names of the spatial modes, `("k0", …)`, or the parts of them."""
        return tuple(mode for parts in self.axes for mode in parts)

    @cached_property
    def axes(self) -> tuple[Modes, ...]:
        """The modes of each spatial axis: `("k0",)`, or the parts of it, `("k0.0", "k0.1")`."""
        return tuple(_parts(mode, self.sizes) for mode in spatial_modes(self.order))

    @cached_property
    def open_modes(self) -> Modes:
        """`([group,] out, in, k0, …)`: the modes of the kernel that the network stands for."""
        return (*self.leaving, *self.ins, *self.spatial)

    @property
    def opens(self) -> dict[str, int]:
        """The size of each of these, in their order."""
        return {mode: self.sizes[mode] for mode in self.open_modes}

    @cached_property
    def outs(self) -> Modes:
        """The modes of the output channels of a group: `("out",)`, or the parts of it."""
        return _parts(OUT, self.sizes)

    @cached_property
    def ins(self) -> Modes:
        """The modes of the input channels of a group, likewise."""
        return _parts(IN, self.sizes)

    @property
    def leaving(self) -> Modes:
        """The modes of the output's channels: `([group,] out)`."""
        return (GROUP, *self.outs) if GROUP in self.sizes else self.outs

    @property
    def entering(self) -> Modes:
        """The modes of the input's channels: `([group,] in)`."""
        return (GROUP, *self.ins) if GROUP in self.sizes else self.ins

    @cached_property
    def bonds(self) -> Modes:
        """The names that are summed over, in the order of their first appearance."""
        names = dict.fromkeys(mode for factor in self.factors for mode in factor)
        return tuple(name for name in names if name not in self.open_modes)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each factor."""
        return tuple(tuple(self.sizes[mode] for mode in factor) for factor in self.factors)

    @property
    def shape(self) -> tuple[int, ...]:
        """The kernel's shape, `(out, in/groups, *k)`."""
        axes = (self.outs, self.ins, *self.axes)
        out, *rest = (prod([self.sizes[mode] for mode in some]) for some in axes)
        return (self.groups * out, *rest)

    @property
    def numel(self) -> int:
        """The number of parameters of all factors but constants."""
        shapes = self.shapes
        return sum(prod(shapes[index]) for index in self.free)

    @cached_property
    def free(self) -> tuple[int, ...]:
        """The indices of the factors that are no constants."""
        return tuple(i for i in range(len(self.factors)) if i not in self.constants)

    def contraction(self, indices: Sequence[int], output: Modes) -> Contraction:
        """Plan the contraction of some of the factors to one tensor with the modes `output`.

        Raises `ValueError` for an index or a mode that they have not.
        """
        if not all(0 <= index < len(self.factors) for index in indices):
            raise ValueError(f"indices={tuple(indices)} must be of its {len(self.factors)} factors")
        return plan_contraction([self.factors[index] for index in indices], output, self.sizes)

    @cached_property
    def whole(self) -> Contraction:
        """The contraction of all factors to the kernel, planned once."""
        return self.contraction(range(len(self.factors)), self.open_modes)

    def to_tensor(self, factors: Sequence[Tensor]) -> Tensor:
        """Contract all factors to the kernel, `(out, in/groups, *k)`.

        Raises `ValueError` for factors of other shapes than `shapes`.
        """
        given = tuple(tuple(factor.shape) for factor in factors)
        if given != self.shapes:
            raise ValueError(f"factors of shapes {given} must have {self.shapes}")
        return self.whole(factors).reshape(self.shape)


def with_group(network: KernelNetwork) -> KernelNetwork:
    """The same network with the mode `group`, of size 1 where it had none."""
    if GROUP in network.sizes:
        return network
    factors = tuple((GROUP, *factor) for factor in network.factors)
    return KernelNetwork(factors, {**network.sizes, GROUP: 1}, network.constants)
