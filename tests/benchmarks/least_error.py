"""How low a layer's output error can get at some ranks: fitted to the held-out inputs themselves.

    pip install -e '.[benchmark]'
    python tests/benchmarks/least_error.py

The ranks are those of `decomposition.py aware`. The fit is the same weighted least squares, but to
convergence, in the moment of the very inputs that the error is measured on, from what `aware`
found and from random factors: a bound, up to local minima, on what any calibration can reach.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

import tenfold
from tenfold.algebra.spectrum import by_group
from tenfold.algebra.weighted import weighted_least_squares
from tenfold.solve.decomposition import whitening_of, with_group

sys.path.insert(0, str(Path(__file__).parent))
from decomposition import RANK, console, layers_of, table

CERTAIN = 10**12  # patches, so that the moment is taken as it is


def main(
    network: Annotated[str, typer.Option(help="Of the benchmark networks.")] = "demo",
    starts: Annotated[int, typer.Option(help="Random ones.")] = 8,
    threads: Annotated[int, typer.Option()] = 2,
) -> None:
    """Print the error of a plain decomposition, of one by calibration, and the least."""
    from networks import NETWORKS

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    loaded = NETWORKS[network]()
    layers = layers_of(loaded.model)
    seen = tenfold.measure_moments(loaded.model, layers, loaded.calibration[::2])
    held = tenfold.measure_moments(loaded.model, layers, loaded.calibration[1::2])
    shown = table(network, "layer", "format", "plain", "aware", "least", "plain / least")
    for format_ in ("spatial_svd", "tucker"):
        rows = []
        for place in layers:
            console.log(format_, place)
            kernel = loaded.model.get_submodule(place).weight.detach()
            rows.append(errors(kernel, format_, seen[place], held[place], starts))
            shown.add_row(place, format_, *described(rows[-1]))
        shown.add_row("mean", format_, *described([mean(some) for some in zip(*rows, strict=True)]))
    console.print(shown)


def errors(
    kernel: Tensor, format_: str, seen: tenfold.Moment, held: tenfold.Moment, starts: int
) -> tuple[float, float, float]:
    """The output errors on the held-out inputs: plain, by what was seen, and the least found."""
    asked: dict[str, Any] = {"rank": RANK, "factorization": format_}
    plain, aware = (
        tenfold.decompose(kernel, **asked, moment=moment).kernel for moment in (None, seen)
    )
    fitted = [least(kernel, aware, held, start) for start in range(starts + 1)]
    found = [aware.to_tensor(), *fitted]
    first, second, *rest = (held.output_error(kernel, one) for one in (plain.to_tensor(), *found))
    return first, second, min(second, *rest)


def least(
    kernel: Tensor, made: tenfold.FactorizedKernel, moment: tenfold.Moment, start: int
) -> Tensor:
    """A kernel of the ranks of `made` fitted to a moment; from `made` where `start` is 0."""
    network = with_group(made.network)
    work = by_group(kernel, network.groups)
    turning = whitening_of(moment, work, network.factors)
    turned = turning.turned(work, network.open_modes)
    seen = turning.seen(moment.matrix, kernel.shape[1:], CERTAIN)
    factors = [torch.randn(shape, dtype=torch.float64) for shape in network.shapes]
    if start == 0:
        own = [
            factor.detach().double().reshape(shape)
            for factor, shape in zip(made.factors, network.shapes, strict=True)
        ]
        factors = replace(turning, inverses=turning.roots).restored(own)
    found = weighted_least_squares(turned, network, factors, seen, sweeps=300, tolerance=1e-4)
    return network.to_tensor(turning.restored(found))


def described(row: Sequence[float]) -> list[str]:
    """Three errors, and how many times the first is the last."""
    return [*(f"{error:.4f}" for error in row), f"{row[0] / row[-1]:.2f}"]


if __name__ == "__main__":
    typer.run(main)
