"""neuraloperator on our tensors: its own tests, and its spectral convolutions beside the peer's.

    pip install -e '.[benchmark,test]'
    pip install --no-deps neuraloperator zencfg configmypy ruamel.yaml torch-harmonics==0.7.4
    python tests/benchmarks/neural_operators.py tests [-k pattern]
    python tests/benchmarks/neural_operators.py times [--threads 1]

`tests` runs the package's own tests of spectral convolutions and models with `import tltorch`
giving our names. `times` has its layers hold the peer's tensors and ours in turn, in one process:
the same ranks, the same numbers, the same contraction. The milliseconds are lower quartiles of the
processor's time, which other work on the machine disturbs least; the outputs are compared before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean, quantiles
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

TESTS = (
    "layers/tests/test_spectral_convolution.py",
    "layers/tests/test_legacy_spectral_convolution.py",
    "layers/tests/test_spherical_convolution.py",
    "layers/tests/test_fno_block.py",
    "layers/tests/test_local_no_block.py",
    "layers/tests/test_coda_layer.py",
    "models/tests",
)
CASES = {  # axes: channels, modes, the grid
    1: (64, (64,), (128,)),
    2: (16, (16, 16), (32, 32)),
    3: (8, (8, 8, 8), (16, 16, 16)),
    4: (4, (6, 6, 6, 6), (8, 8, 8, 8)),
}
app = typer.Typer(add_completion=False)


@app.command("tests")
def own_tests(pattern: Annotated[str, typer.Option("-k", help="As pytest's.")] = "") -> None:
    """Run neuraloperator's own tests on our tensors."""
    from tenfold import tltorch

    tltorch.stand_in()
    import neuralop
    import pytest

    folder = Path(neuralop.__file__).parent
    chosen = ["-k", pattern] if pattern else []
    plain = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(folder)]
    sys.exit(pytest.main([*plain, *chosen, *(str(folder / one) for one in TESTS)]))


def layer_of(made_by: Any, axes: int, **arguments: Any) -> torch.nn.Module:
    """A spectral convolution whose weight is made by the peer's class, or by ours."""
    from neuralop.layers import spectral_convolution

    channels, modes, _ = CASES[axes]
    spectral_convolution.FactorizedTensor = made_by
    return spectral_convolution.SpectralConv(channels, channels, modes, bias=False, **arguments)


def give(theirs: Any, ours: Any) -> None:
    """Our numbers to a tensor of the peer's, of the same format and ranks."""
    with torch.no_grad():
        if ours.name == "dense":
            theirs.tensor.copy_(ours.to_tensor())
            return
        if ours.name == "cp":
            theirs.weights.copy_(ours.weights)
        if ours.name == "tucker":
            theirs.core.copy_(ours.core)
        for index, one in enumerate(ours.factors):
            theirs.factors[index].copy_(one)


def in_turn(work: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The lower quartile of the milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for run in work.values():
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 9:
        for name, run in work.items():
            started = time.process_time()
            run()
            times[name].append(1000 * (time.process_time() - started))
    return {name: quantiles(found, n=4)[0] for name, found in times.items()}


def measured(axes: int, seconds: float, **arguments: Any) -> tuple[dict[str, float], ...]:
    """Milliseconds forward, and forward and backward, of the peer's layer and of ours."""
    import tltorch as peer

    from tenfold import tltorch

    torch.manual_seed(0)
    ours = layer_of(tltorch.FactorizedTensor, axes, rank=0.1, **arguments)
    rank = ours.weight.rank
    ended = (1, *(rank if isinstance(rank, tuple) else (rank,)), 1)
    rank = {"tt": ended, "dense": None}.get(ours.weight.name, rank)
    theirs = layer_of(peer.FactorizedTensor, axes, rank=rank, **arguments)
    give(theirs.weight, ours.weight)
    channels, _, grid = CASES[axes]
    x = torch.randn(4, channels, *grid)
    layers = {"peer": theirs, "ours": ours}
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-3, atol=1e-4)
        forward = in_turn({n: (lambda one=one: one(x)) for n, one in layers.items()}, seconds)
    both = {n: (lambda one=one: one(x).sum().backward()) for n, one in layers.items()}
    return forward, in_turn(both, seconds)


@app.command()
def times(
    threads: Annotated[int, typer.Option(help="For both.")] = 1,
    seconds: Annotated[float, typer.Option(help="For each number.")] = 1.0,
) -> None:
    """Time its layers on the peer's tensors and on ours."""
    torch.set_num_threads(threads)
    table = Table(title=f"SpectralConv, batch 4, {threads} threads, torch {torch.__version__}")
    for title in ("axes", "format", "run", "separable", "peer, ms", "×", "with backward, ms", "×"):
        table.add_column(title)
    note, ratios = Console(stderr=True), []
    for axes in CASES:
        for name in ("Dense", "CP", "Tucker", "TT"):
            for run in ("factorized", "reconstructed"):
                for separable in (False, True):
                    arguments = {"factorization": name, "implementation": run}
                    pairs = measured(axes, seconds, separable=separable, **arguments)
                    cells = [str(axes), name, run, "yes" if separable else ""]
                    for pair in pairs:
                        cells += [f"{pair['peer']:.2f}", f"{pair['peer'] / pair['ours']:.2f}"]
                    ratios.append([pair["peer"] / pair["ours"] for pair in pairs])
                    table.add_row(*cells)
                    note.log(*cells)
    means = [geometric_mean(column) for column in zip(*ratios, strict=True)]
    table.add_row("all", "", "", "", "", f"{means[0]:.2f}", "", f"{means[1]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    app()
