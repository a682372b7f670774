"""Lower a partition to convolutions, and run them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import NamedTuple

from torch import Tensor, nn

from ..network import Geometry, KernelNetwork, Modes, Partition, Roles, roles
from ..plugin import MemoryFormat, Plan
from .convolve import is_traced
from .placing import Placed, place
from .prepared import BySize, PreparedChain, fixed_stages
from .spelling import modules_of
from .stage import Permutation, Stage, add_bias


@dataclass(frozen=True)
class Chain(Plan):
    """The convolutions that a partition makes of a network, one after another.

    `memory_format` is the layout in which the activations are kept; None for that of the input.
    `packed` lets the weights be packed for oneDNN in eval; else PyTorch's convolutions run. `apart`
    runs in its place, in training, on inputs so small that to merge factors costs more, and `thin`,
    in eval, on those so small that to read a merged weight does.
    """

    partition: Partition
    stages: tuple[Stage, ...]
    permutation: Permutation | None  # of the last stage's channels to (group, out)
    memory_format: MemoryFormat | None = None
    packed: bool = True
    apart: Apart | None = None
    thin: Apart | None = None

    def __call__(
        self,
        x: Tensor,
        factors: Sequence[Tensor],
        bias: Tensor | None,
        output_padding: Sequence[int] | None = None,
    ) -> Tensor:
        """Run it on `x`, `(batch, channels, *size)`; with another output padding, where given."""
        chain = self.suited(x)
        for stage in chain.stages[:-1]:
            x = stage(x, factors, None, output_padding)
        last = chain.stages[-1]
        if chain.permutation is None:
            return last(x, factors, bias, output_padding)
        return add_bias(chain.permutation(last(x, factors, None, output_padding)), bias)

    def suited(self, x: Tensor) -> Chain:
        """The chain that runs on `x`: this one, or one for smaller inputs."""
        chain = self
        while chain.apart and not is_traced() and x.numel() < chain.apart.below:
            chain = chain.apart.chain
        return chain

    def prepare(self, factors: Sequence[Tensor], bias: Tensor | None) -> PreparedChain | BySize:
        """Contract every stage's weight once; returns `x -> y`."""
        if self.thin is not None:
            large = partial(replace(self, thin=None).prepare, factors, bias)
            return BySize(partial(self.thin.chain.prepare, factors, bias), self.thin.below, large)
        at_end, after = (bias, None) if self.permutation is None else (None, bias)
        steps = fixed_stages(self.stages, factors, at_end, self.packed)
        if self.permutation is not None:
            steps.append(self.permutation)
            steps.append(partial(add_bias, bias=after))
        return PreparedChain(steps)

    def macs(self, size: Sequence[int]) -> int:
        """Multiply-accumulates for one input of spatial size `size`."""
        total = 0
        for stage in self.stages:
            total += stage.macs(size)
            size = stage.geometry.output_size(size)
        return total

    def to_modules(self, factors: Sequence[Tensor], bias: Tensor | None) -> list[nn.Module]:
        """PyTorch's own convolutions, up to order 3; the last has the bias."""
        modules = list(modules_of(self.stages, self.permutation, factors).values())
        if bias is not None:
            modules[-1].bias = nn.Parameter(bias.detach().clone())
        return modules

    def traffic(self, size: Sequence[int]) -> int:
        """Elements that its convolutions read and write for one input of spatial size `size`."""
        total = 0
        for stage in self.stages:
            total += stage.in_channels * prod(size)
            size = stage.geometry.output_size(size)
            total += stage.out_channels * prod(size)
        return total


class Apart(NamedTuple):
    """A chain that merges less, and the number of an input's elements below which it runs."""

    chain: Chain
    below: float


def lower(network: KernelNetwork, partition: Partition, geometry: Geometry) -> Chain:
    """Turn an ordered `partition` of a network's factors into convolutions.

    They do what one of `geometry` by the kernel of `network` does, in and out as `(batch, channels,
    *size)`. The order of the channels between two stages is chosen by what later stages do with
    them, so that an activation is permuted only where two stages contradict each other.

    What comes back is a `Plan`: an implementation whose own code is for some inputs alone may run
    it for all others. Raises `ValueError` where `partition` does not hold each factor once, or
    splits a spatial mode.

    >>> from tenfold.network import Geometry, KernelNetwork
    >>> sizes = {"out": 8, "in": 4, "k0": 3, "r": 2}
    >>> network = KernelNetwork((("in", "k0", "r"), ("r", "out")), sizes)
    >>> plan = lower(network, ((0,), (1,)), Geometry((3,), (1,), (1,), (1,), (0,), False))
    >>> plan(torch.ones(5, 4, 9), [torch.ones(4, 3, 2), torch.ones(2, 8)], None).shape
    torch.Size([5, 8, 9])
    >>> plan.macs((9,)), len(plan.to_modules([torch.ones(4, 3, 2), torch.ones(2, 8)], None))
    (360, 2)
    """
    whole = list(range(len(network.factors)))
    if not all(partition) or sorted(i for group in partition for i in group) != whole:
        raise ValueError(
            f"partition {partition} must hold each of the {len(whole)} factors once, "
            "in groups of at least one"
        )
    plan: list[Roles] = []
    done: tuple[int, ...] = ()
    for group in partition:
        role = roles(network, done, group, geometry)
        if role is None:
            raise ValueError(f"partition {partition} splits a spatial mode over two groups")
        plan.append(role)
        done += tuple(group)

    stages = []
    seen: set[str] = set()
    places = place(network, plan)
    for group, role, placed in zip(partition, plan, places, strict=True):
        stages.append(_stage(network, group, role, _on(network, role, seen, geometry), placed))
        seen.update(role.spatial)
    permutation = _permutation(network, places[-1].left, network.leaving)
    return Chain(tuple(map(tuple, partition)), tuple(stages), permutation)


def _stage(
    network: KernelNetwork,
    group: Sequence[int],
    role: Roles,
    here: tuple[Geometry, tuple[int, ...]],
    placed: Placed,
) -> Stage:
    def size(modes: Modes) -> int:
        return prod(network.sizes[mode] for mode in modes)

    geometry, begun = here
    grouped = placed.grouped
    heads = (placed.summed, placed.new) if geometry.transposed else (placed.new, placed.summed)
    modes = (*grouped, *heads[0], *heads[1], *role.spatial)
    return Stage(
        factors=tuple(group),
        roles=role,
        contraction=network.contraction(group, modes),
        modes=modes,
        weight_shape=(size(grouped) * size(heads[0]), size(heads[1]), *geometry.kernel_size),
        passed=size(placed.passed),
        after=size(placed.after),
        groups=size(grouped),
        geometry=geometry,
        begun=begun,
        permutation=_permutation(network, placed.found, placed.had),
    )


def _on(
    network: KernelNetwork, role: Roles, seen: Set[str], geometry: Geometry
) -> tuple[Geometry, tuple[int, ...]]:
    """The geometry of a stage after those that convolved over `seen`, and the axes it begins.

    Taps `t = i₀ n₁ + i₁` of two parts are those of two convolutions, of dilations `d n₁` and `d`.
    The first of an axis pads and the last strides; transposed, the other way about.
    """
    mine = [a for a, parts in enumerate(network.axes) if any(m in role.spatial for m in parts)]
    here = geometry.on(mine)
    begun = tuple(axis for axis in mine if seen.isdisjoint(network.axes[axis]))
    if all(len(network.axes[axis]) == 1 for axis in mine):
        return here, begun
    size, stride, padding, dilation, extra = map(
        list, (here.kernel_size, here.stride, here.padding, here.dilation, here.output_padding)
    )
    for axis in mine:
        parts = network.axes[axis]
        held = [place for place, mode in enumerate(parts) if mode in role.spatial]
        first, last = axis in begun, set(parts) <= {*seen, *role.spatial}
        size[axis] = prod(network.sizes[parts[place]] for place in held)
        dilation[axis] *= prod(network.sizes[mode] for mode in parts[held[-1] + 1 :])
        strides, pads = (first, last) if geometry.transposed else (last, first)
        stride[axis] = stride[axis] if strides else 1
        padding[axis] = padding[axis] if pads else 0
        extra[axis] = extra[axis] if first else 0
    made = (tuple(size), tuple(stride), tuple(padding), tuple(dilation), tuple(extra))
    return Geometry(*made, geometry.transposed), begun


def _permutation(network: KernelNetwork, given: Modes, wanted: Modes) -> Permutation | None:
    if given == wanted:
        return None
    sizes = tuple(network.sizes[mode] for mode in given)
    return Permutation(sizes, tuple(given.index(mode) for mode in wanted))
