"""Linear layers of factors beside dense ones and TensorLy-Torch's, each in turn, on one thread.

    pip install tensorly-torch
    python tests/benchmarks/linear.py [--size 1024] [--repeats 15]

Block tensor trains of three parts at equal ranks; the ratio is of the medians of rounds in which
all run once, in time of the one thread, of which other work on the machine takes nothing. `auto` is
ours with `implementation="auto"`, tuned before.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import nn

from tenfold import FactorizedLinear
from tenfold.network import balanced


def rounds(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats + 2):
        for name, run in ways.items():
            start = time.thread_time()
            run()
            if number > 1:
                times[name].append(time.thread_time() - start)
    return {name: statistics.median(some) for name, some in times.items()}


def trained(module: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def run() -> None:
        module.zero_grad()
        module(x).sum().backward()

    return run


def inferred(module: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return module(x)

    return run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=15)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    import tltorch  # it changes TensorLy's backend

    parts = balanced(asked.size, 3)
    print(
        "| rank | batch | forward: peer / ours | dense / ours | dense / auto "
        "| both: peer / ours | dense / ours |\n|---|---|---|---|---|---|---|"
    )
    for rank in (4, 8, 16):
        for batch in (1, 16, 128):
            x = torch.randn(batch, asked.size)
            layers = {
                "ours": FactorizedLinear(parts, parts, rank=rank),
                "peer": tltorch.FactorizedLinear(parts, parts, factorization="blocktt", rank=rank),
                "dense": nn.Linear(asked.size, asked.size),
                "auto": FactorizedLinear(parts, parts, rank=rank, implementation="auto"),
            }
            for layer in layers.values():
                layer.eval()
            layers["auto"].tune(x)
            told = rounds({n: inferred(one, x) for n, one in layers.items()}, asked.repeats)
            del layers["auto"]
            for layer in layers.values():
                layer.train()
            both = rounds({n: trained(one, x) for n, one in layers.items()}, asked.repeats)
            numbers = (
                told["peer"] / told["ours"],
                told["dense"] / told["ours"],
                told["dense"] / told["auto"],
                both["peer"] / both["ours"],
                both["dense"] / both["ours"],
            )
            print(
                f"| {rank} | {batch} | " + " | ".join(f"{n:.2f}" for n in numbers) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
