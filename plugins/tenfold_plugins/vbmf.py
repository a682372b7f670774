"""The rank request `"vbmf"`: as many components as stand out of the noise.

The global solution of empirical variational Bayesian matrix factorization with unknown noise
(Nakajima, Sugiyama, Babacan and Tomioka 2013, "Global analytic solution of fully-observed
variational Bayesian matrix factorization", JMLR 14), applied to the kernel's unfoldings, as Kim et
al. 2016 (arXiv 1511.06530) do for Tucker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, log
from typing import Any

import torch
from torch import Tensor

from tenfold import hookimpl
from tenfold.algebra import bond_matrix

STEPS = 200  # of the search for the noise's variance
GOLDEN = (5**0.5 - 1) / 2


@hookimpl
def tenfold_rank(
    request: Any, shape: tuple[int, ...], factorization: Any, kernel: Tensor | None
) -> tuple[int, ...] | None:
    """Answer `"vbmf"` with a rank for each bond of the format.

    A bond that parts the network gets the rank of the kernel unfolded there; one that does not (in
    CP, in a ring) the largest rank of a mode. Groups get the largest of theirs. Raises
    `ValueError` where there is no kernel to look at.
    """
    if request != "vbmf":
        return None
    if kernel is None or kernel.device.type == "meta":
        raise ValueError("rank='vbmf' looks at a trained kernel: use from_conv or from_tensor")
    network = factorization.network((shape[0] // len(kernel), *shape[1:]), 1)
    factors, bonds = network.factors, network.bonds
    kernel = kernel.reshape(-1, *(network.sizes[mode] for mode in network.open_modes))
    modes = [kernel.movedim(mode, 1).flatten(2) for mode in range(1, kernel.dim())]
    ranks = []
    for bond in bonds:
        matrix = bond_matrix(kernel, factors, bond)
        seen = modes if matrix is None else [matrix]
        ranks.append(max(evbmf_rank(one) for matrices in seen for one in matrices))
    return tuple(ranks)


def evbmf_rank(matrix: Tensor) -> int:
    """How many components of `(rows, columns)` stand out of white noise; at least 1."""
    rows, columns = sorted(matrix.shape)
    values = torch.linalg.svdvals(matrix).double()
    squares = [float(value) ** 2 for value in values]
    total = sum(squares)
    if total == 0:
        return 1
    alpha = rows / columns
    tau = 2.5129 * alpha**0.5  # where a component's free energy becomes negative, fitted
    edge = (1 + tau) * (1 + alpha / tau)
    most = min(ceil(rows / (1 + alpha)) - 1, rows - 1)
    rest = squares[most:]
    least = max(rest[0] / (columns * edge), sum(rest) / (len(rest) * columns), 1e-12 * total)
    noise = minimise(
        lambda variance: free_energy(variance, squares, rows, columns, edge),
        least,
        max(least, total / (rows * columns)),
    )
    return max(1, len([square for square in squares if square > columns * noise * edge]))


def free_energy(
    noise: float, squares: Sequence[float], rows: int, columns: int, edge: float
) -> float:
    """The variational free energy as a function of the noise's variance, but for constants."""
    alpha, energy = rows / columns, 0.0
    for square in squares:
        x = max(square / (columns * noise), 1e-300)
        if x <= edge:
            energy += x - log(x)
        else:
            shifted = x - (1 + alpha)
            tau = (shifted + (shifted**2 - 4 * alpha) ** 0.5) / 2
            energy += x - tau + log((tau + 1) / x) + alpha * log(tau / alpha + 1)
    return energy


def minimise(function: Callable[[float], float], low: float, high: float) -> float:
    """The least of a function between two positive numbers: a grid of logarithms, then golden."""
    grid = [low * (high / low) ** (step / STEPS) for step in range(STEPS + 1)]
    best = min(range(len(grid)), key=lambda index: function(grid[index]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, STEPS)]
    while high - low > 1e-10 * high:
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, right) if function(left) < function(right) else (left, high)
    return (low + high) / 2
