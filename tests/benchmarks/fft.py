"""Time `fft` beside `factorized` and the dense convolution on depthwise kernels.

    python tests/benchmarks/fft.py [--threads 2] [--rounds 7]

CP of rank 4 in each channel, channels-first, eval; each round times the three in turn and the
median round counts. Prints a Markdown table: milliseconds, and how often `fft` goes into dense.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Annotated

import torch
import typer
from torch import Tensor

from tenfold import FactorizedConv, relative_error

CASES = [(channels, k, 56) for channels in (64, 256) for k in (7, 15, 31, 51)]


def timed(run: Callable[[Tensor], Tensor], x: Tensor) -> float:
    started = time.perf_counter()
    run(x)
    return 1000 * (time.perf_counter() - started)


@torch.inference_mode()
def main(
    threads: Annotated[int, typer.Option(help="Of every side.")] = 1,
    rounds: Annotated[int, typer.Option(help="Of timing, in turn.")] = 7,
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    print(f"{threads} threads, torch {torch.__version__}, batch 1\n")
    print("| channels, kernel, map | fft | factorized | dense | dense / fft | relative error |")
    print("|---|---|---|---|---|---|")
    for channels, k, size in CASES:
        made = FactorizedConv(
            channels, channels, (k, k), 1, k // 2, groups=channels, rank=4, implementation="fft"
        ).eval()
        chain = FactorizedConv.from_factorization(
            made.weight, implementation="factorized", bias=made.bias, padding=k // 2
        ).eval()
        dense, x = made.to_conv(), torch.randn(1, channels, size, size)
        error = relative_error(dense(x), made(x))
        sides = (made, chain, dense)
        for side in sides:
            side(x)
        times = [[timed(side, x) for side in sides] for _ in range(rounds)]
        fft, factorized, whole = (median(column) for column in zip(*times, strict=True))
        print(
            f"| {channels}, {k}×{k}, {size}² | {fft:.1f} | {factorized:.1f} | {whole:.1f} "
            f"| {whole / fft:.1f} | {error:.0e} |"
        )


if __name__ == "__main__":
    typer.run(main)
