"""A layer of one more axis that does at first what it did, frame by frame.

The kernel gets a mode of which only the centre is not zero. In the format's own network of one more
axis, a factor that has the mode is the old one at its centre; one that has only it and bonds lets
the bonds through there. Where a format has no such place for it, the kernel is decomposed anew.
Kossaifi et al. 2020, "Factorized higher-order CNNs with an application to spatio-temporal emotion
estimation", arXiv 1906.06196.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..algebra import by_group, tails
from ..network import GROUP, KernelNetwork, KernelSum, parts_of, terms_of, with_group
from ..solve import decompose, relative_error
from .config import ConvConfig
from .kernel import FactorizedKernel

EXACT = {torch.float64: 1e-9, torch.complex128: 1e-9}  # the relative error of a kernel made anew
NEAR = 1e-4  # in other dtypes; of half precision its own rounding besides
LOST = 1e-13  # of a kernel's square, below which a bond is exact


@torch.no_grad()
def transducted(kernel: FactorizedKernel, size: int, axis: int) -> FactorizedKernel:
    """The kernel with a mode of `size` before its spatial axis `axis`, zero but at the centre.

    Raises `ValueError` where the format has no network for it that is exact.
    """
    network, plugin = kernel.network, kernel.choice.plugin
    shape = (*kernel.shape[: 2 + axis], size, *kernel.shape[2 + axis :])
    for more in (1, 0):  # bonds: some formats have one for each axis
        try:
            wider = plugin.network(shape, (1,) * (len(network.bonds) + more), kernel.groups)
        except (ValueError, TypeError):
            continue
        found = _matched(kernel, wider, axis, size)
        if found is not None:
            ranks, factors = found
            made = plugin.network(shape, ranks, kernel.groups)
            if made.shapes == tuple(tuple(one.shape) for one in factors):
                return FactorizedKernel(made, factors, kernel.choice)
    return _anew(kernel, shape, axis, size)


def _matched(
    kernel: FactorizedKernel, wider: KernelNetwork, axis: int, size: int
) -> tuple[tuple[int, ...], list[Tensor]] | None:
    """The bond sizes and factors of a network of one more axis; None where there is no match."""
    terms = (terms_of(kernel.network), terms_of(wider))
    if len(terms[0]) != len(terms[1]):
        return None
    ranks: list[int] = []
    factors: list[Tensor] = []
    parts = parts_of(kernel.network, tuple(kernel.factors))
    for old, new, part in zip(*terms, parts, strict=True):
        match = _Match.of(old, new, axis, size)
        if match is None:
            return None
        ranks += [match.sizes[bond] for bond in new.bonds]
        factors += match.factors(part)
    return tuple(ranks), factors


@dataclass(frozen=True)
class _Match:
    """Two networks of one format, the second of one more axis, told by their open modes."""

    old: KernelNetwork
    new: KernelNetwork
    axis: int
    kept: tuple[int, ...]  # the factors of `new` that are those of `old`, in order
    extra: int | None  # the one that has only the new axis
    own: str | None  # the bond that is its alone, and another's
    bonds: dict[str, str]  # each other bond of `new`, as `old` names it
    sizes: dict[str, int]

    @classmethod
    def of(cls, old: KernelNetwork, new: KernelNetwork, axis: int, size: int) -> _Match | None:
        mode, names = f"k{axis}", {f"k{a}": f"k{a + 1}" for a in range(axis, old.order)}
        opens = [{names.get(m, m) for m in f if m in old.open_modes} for f in old.factors]
        wider = [{m for m in f if m in new.open_modes} for f in new.factors]
        extra = None
        if len(wider) == len(opens) + 1:
            alone = [i for i, one in enumerate(wider) if one - {GROUP} == {mode}]
            extra = alone[0] if alone else None
        kept = tuple(i for i in range(len(wider)) if i != extra)
        if [wider[i] - {mode} for i in kept] != opens or old.constants or new.constants:
            return None
        own = None
        if extra is not None:
            its = [m for m in new.factors[extra] if m in new.bonds]
            if len(its) == 1 and sum(its[0] in factor for factor in new.factors) == 2:
                own = its[0]
        bonds: dict[str, str] = {}
        for index, modes in zip(kept, old.factors, strict=True):
            theirs = [m for m in new.factors[index] if m in new.bonds and m != own]
            mine = [m for m in modes if m in old.bonds]
            if len(theirs) != len(mine):
                return None
            if any(bonds.setdefault(a, b) != b for a, b in zip(theirs, mine, strict=True)):
                return None
        if set(bonds) | ({own} if own else set()) != set(new.bonds):
            return None
        sizes = {**new.sizes, mode: size, **{one: old.sizes[b] for one, b in bonds.items()}}
        match = cls(old, new, axis, kept, extra, own, bonds, sizes)
        return match if match.passes() else None

    def passes(self) -> bool:
        """Whether the extra factor can let its bonds through: it has one, or two that are one."""
        if self.extra is None or self.own is not None:
            return True
        its = [m for m in self.new.factors[self.extra] if m in self.bonds]
        return len(its) in (1, 2) and len({self.bonds[m] for m in its}) == 1

    def factors(self, factors: Sequence[Tensor]) -> list[Tensor]:
        """The factors of the wider network."""
        mode, size = f"k{self.axis}", self.sizes[f"k{self.axis}"]
        back = {f"k{a + 1}": f"k{a}" for a in range(self.axis, self.old.order)} | self.bonds
        found: dict[int, Tensor] = {}
        for index, factor, modes in zip(self.kept, factors, self.old.factors, strict=True):
            wanted = self.new.factors[index]
            inner = [m for m in wanted if m not in (mode, self.own)]
            moved = factor.permute([modes.index(back.get(m, m)) for m in inner])
            if self.own in wanted:
                there = [m for m in wanted if m != mode].index(str(self.own))
                moved = moved.unsqueeze(there)
            if mode in wanted:
                moved = at_centre(moved, wanted.index(mode), size)
            found[index] = moved.contiguous()
        if self.extra is not None:
            found[self.extra] = self._let_through(self.new.factors[self.extra], factors[0])
        return [found[index] for index in range(len(found))]

    def _let_through(self, modes: Sequence[str], like: Tensor) -> Tensor:
        """Ones, or the identity of two bonds, at the centre of the new axis."""
        its = [m for m in modes if m in self.bonds]
        count = self.sizes[its[0]] if its else 1
        values = torch.eye(count).to(like) if len(its) == 2 else like.new_ones(count)
        mode = f"k{self.axis}"
        there = [m for m in modes if m != GROUP].index(mode)
        wide = at_centre(values, there, self.sizes[mode])
        groups = self.sizes.get(GROUP, 1)
        return wide.expand(groups, *wide.shape).clone() if GROUP in modes else wide


def at_centre(factor: Tensor, axis: int, size: int) -> Tensor:
    """The factor at the middle of a new axis, zeros around it."""
    shape = [*factor.shape[:axis], size, *factor.shape[axis:]]
    wide = factor.new_zeros(shape)
    wide.select(axis, size // 2).copy_(factor)
    return wide


def _anew(
    kernel: FactorizedKernel, shape: tuple[int, ...], axis: int, size: int
) -> FactorizedKernel:
    """By the format's decomposition, at the least bonds that its spectra say are exact."""
    plugin, whole = kernel.choice.plugin, kernel.to_tensor()
    if isinstance(kernel.network, KernelSum):
        raise ValueError(
            f"factorization={kernel.factorization!r} has no such sum of one more axis: transduct a "
            "layer of one format"
        )
    work = by_group(at_centre(whole, 2 + axis, size), kernel.groups)
    exact = plugin.network(shape, 10**9, kernel.groups)
    ranks = {bond: exact.sizes[bond] for bond in exact.bonds}
    if not work.is_complex():
        named = with_group(exact)
        unfolded = work.reshape([named.sizes[m] for m in named.open_modes])
        inner = [tuple(m for m in modes if m != "group") for modes in exact.factors]
        for cut, lost in tails(unfolded, inner).items():
            if len(cut) == 1:
                least = next(n for n, one in enumerate(lost) if one <= LOST)
                ranks[cut[0]] = max(1, min(ranks[cut[0]], least))
    network = plugin.network(shape, tuple(ranks.values()), kernel.groups)
    factors = decompose(plugin, work, network, whole.dtype)
    most = EXACT.get(whole.dtype, NEAR + 4 * torch.finfo(whole.dtype).eps)
    error = relative_error(work.flatten(0, 1), network.to_tensor([one.to(work) for one in factors]))
    if not error <= most:
        raise ValueError(
            f"factorization={kernel.factorization!r} at ranks {tuple(ranks.values())} is off by "
            f"{error:.2g} of a frame's kernel, more than {most}: transduct in float64"
        )
    return FactorizedKernel(network, factors, kernel.choice)


def check_axis(kernel_size: Any, mode: Any, order: int) -> tuple[int, int]:
    """The size and the place of a new axis; a `ValueError` for what is none."""
    if type(kernel_size) is not int or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size={kernel_size!r} must be an odd int: its centre is the frame")
    if order == 0:
        raise ValueError("a linear layer has no axes to add one to: transduct a convolution")
    if type(mode) is not int or not 0 <= mode <= order:
        raise ValueError(f"mode={mode!r} must be an int from 0 to {order}")
    return kernel_size, mode


def freeze_others(layer: nn.Module, kernel: FactorizedKernel, mode: str) -> None:
    """Let only the factors with a mode learn, of all parameters of a layer."""
    layer.requires_grad_(False)
    for factor, modes in zip(kernel.factors, kernel.network.factors, strict=True):
        if mode in modes and isinstance(factor, nn.Parameter):
            factor.requires_grad_(True)


def stretched(
    config: ConvConfig, size: int, axis: int, padding: Any, stride: Any, dilation: Any
) -> ConvConfig:
    """The arguments of the layer with an axis more; by default as many frames leave as enter."""
    given = {name: getattr(config, name) for name in ConvConfig.model_fields}
    if isinstance(config.padding, str) and padding is not None:
        raise ValueError(
            f"padding={padding!r} beside padding={config.padding!r} of the layer: leave it out"
        )
    if padding is None:
        padding = dilation * (size // 2) if type(dilation) is int else 0
    new = {"kernel_size": size, "stride": stride, "padding": padding, "dilation": dilation}
    for name, one in {**new, "output_padding": 0}.items():
        if isinstance(given[name], tuple):
            given[name] = (*given[name][:axis], one, *given[name][axis:])
    return ConvConfig.parse(**{**given, "order": config.order + 1})
