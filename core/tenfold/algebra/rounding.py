"""Round a tree of factors to smaller bonds, without the kernel that they stand for.

Orthonormal factors all around one make its singular values the whole kernel's: a bond is cut where
its owner is the centre, and the centre moves on by a QR decomposition (Oseledets 2011, section 3,
doi:10.1137/090752286, for tensor trains; Grasedyck 2010, doi:10.1137/090764189, for trees).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from ..network import KernelNetwork, Modes
from .svd import signs


def is_tree(network: KernelNetwork) -> bool:
    """Whether every bond joins two factors that can turn, and the factors are bound without a loop.

    Open modes that several factors have must be all factors': then there is a tree for each place.
    """
    owners = owners_of(network)
    turn = all(len(own) == 2 and set(own) <= set(network.free) for own in owners.values())
    names = [mode for factor in network.factors for mode in factor]
    apart = all(names.count(m) in (1, len(network.factors)) for m in network.open_modes)
    pairs = [frozenset(own) for own in owners.values()]
    return turn and apart and len(pairs) == len(set(pairs)) == len(network.factors) - 1


def owners_of(network: KernelNetwork) -> dict[str, list[int]]:
    """The indices of the factors that have each bond."""
    return {
        bond: [index for index, modes in enumerate(network.factors) if bond in modes]
        for bond in network.bonds
    }


@torch.no_grad()
def spectra(network: KernelNetwork, factors: Sequence[Tensor]) -> dict[str, Tensor]:
    """The squared singular values that each bond of a tree carries, the largest first."""
    tree = _Tree(network, list(factors))
    tree.visit(tree.root, {})
    return tree.seen


@torch.no_grad()
def round_tree(
    network: KernelNetwork, factors: Sequence[Tensor], sizes: Mapping[str, int]
) -> list[Tensor]:
    """The factors of a tree with smaller bonds: within `√bonds` of the nearest such kernel."""
    tree = _Tree(network, list(factors))
    tree.visit(tree.root, sizes)
    return tree.factors


@dataclass
class _Tree:
    """A tree of factors that hangs from the one of most bonds, whose children are orthonormal."""

    network: KernelNetwork
    factors: list[Tensor]
    modes: list[Modes] = field(init=False)
    children: dict[int, list[tuple[str, int]]] = field(init=False)
    seen: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [mode for factor in self.network.factors for mode in factor]
        count = len(self.network.factors)
        self.shared = tuple(m for m in self.network.open_modes if names.count(m) == count > 1)
        self.modes = list(self.network.factors)
        degrees = [sum(mode in self.network.bonds for mode in one) for one in self.modes]
        self.root = degrees.index(max(degrees))
        self.children = {index: [] for index in range(count)}
        self._hang(self.root, set())

    def _hang(self, index: int, above: Collection[str]) -> None:
        """List the children of a factor, and make them orthonormal from the leaves up."""
        for bond, pair in owners_of(self.network).items():
            if index in pair and bond not in above:
                child = pair[1 - pair.index(index)]
                self.children[index].append((bond, child))
                self._hang(child, {bond})
                self._move(child, index, bond)

    def visit(self, index: int, sizes: Mapping[str, int]) -> None:
        """See the spectra of the bonds below a factor, the centre, and cut them to `sizes`."""
        for bond, child in self.children[index]:
            matrix = self._unfolded(index, bond)
            u, s, v = torch.linalg.svd(matrix, full_matrices=False)
            self.seen[bond] = s.square().flatten(0, -2).sum(0) if s.dim() > 1 else s.square()
            kept = min(sizes.get(bond, s.shape[-1]), s.shape[-1])
            turn = signs(u[..., :kept])
            self._fold(index, bond, u[..., :kept] * (s[..., None, :kept] * turn))
            self._apply(child, bond, turn.mT.conj() * v[..., :kept, :])
        for bond, child in self.children[index]:
            if self.children[child]:
                self._move(index, child, bond)
                self.visit(child, sizes)
                self._move(child, index, bond)

    def _move(self, start: int, end: int, bond: str) -> None:
        """Make one factor orthonormal towards a bond; what is left goes over it."""
        q, r = torch.linalg.qr(self._unfolded(start, bond))
        self._fold(start, bond, q)
        self._apply(end, bond, r)

    def _order(self, index: int, bond: str) -> tuple[Modes, Modes]:
        rest = tuple(m for m in self.modes[index] if m != bond and m not in self.shared)
        return self.shared, rest

    def _unfolded(self, index: int, bond: str) -> Tensor:
        """A factor as `(*shared, rest, bond)`."""
        shared, rest = self._order(index, bond)
        modes = self.modes[index]
        moved = self.factors[index].permute([modes.index(m) for m in (*shared, *rest, bond)])
        sizes = moved.shape[: len(shared)]
        return moved.reshape(*sizes, prod(moved.shape[len(shared) : -1]), moved.shape[-1])

    def _fold(self, index: int, bond: str, matrix: Tensor) -> None:
        """Take `(*shared, rest, bond)` for a factor."""
        shared, rest = self._order(index, bond)
        modes, old = self.modes[index], self.factors[index]
        order = (*shared, *rest, bond)
        sizes = [old.shape[modes.index(mode)] for mode in (*shared, *rest)]
        moved = matrix.reshape(*sizes, matrix.shape[-1])
        self.factors[index] = moved.permute([order.index(mode) for mode in modes])

    def _apply(self, index: int, bond: str, matrix: Tensor) -> None:
        """Multiply `(*shared, new, bond)` onto a factor's bond."""
        self._fold(index, bond, self._unfolded(index, bond) @ matrix.mT)
