"""Write `docs/mistakes.md`: the likeliest mistakes, each with the message that it gives.

    python docs/scripts/mistakes.py

Each line of code is run; a test compares the page with what it gives now.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

import tenfold

PAGE = Path(__file__).parent.parent / "mistakes.md"
ALONE = {"TENFOLD_DISABLE": "tenfold-tensor-ring:tensor_ring"}  # the tests' own plugin

HEAD = """# Mistakes and what they say

The {count} likeliest, with the message of each. Every refusal is a `ValueError` or a `TypeError`
(a file that is missing is a `FileNotFoundError`),
comes before anything is changed, and names the argument, what was given and what to give instead.
This page is written by `python docs/scripts/mistakes.py`, which runs each line; `conv` is
`nn.Conv2d(16, 32, 3, padding=1)` and `layer` is `FactorizedConv(16, 32, (3, 3))`.

"""
MISTAKES = {
    "Making a layer": [
        "FactorizedConv(16, 32, 3)",
        "FactorizedConv(16, 32, (3, 3), order=3)",
        "FactorizedConv(16, 32, (3, 3), stride=(1, 2, 1))",
        "FactorizedConv(16, 32, (3, 3), stride=0)",
        "FactorizedConv(16, 32, (3, 3), padding='full')",
        "FactorizedConv(16, 32, (3, 3), stride=2, padding='same')",
        "FactorizedConv(16, 32, (3, 3), padding_mode='mirror')",
        "FactorizedConv(16, 30, (3, 3), groups=4)",
        "FactorizedConv(16.0, 32, (3, 3))",
        "FactorizedConv(16, 32, (3, 3), bias=None)",
        "FactorizedConv(16, 32, (3, 3), output_padding=1)",
        "FactorizedConv(16, 32, (3, 3), transposed=True, padding='same')",
        "FactorizedConv(16, 32, (3, 3), dtype=torch.int8)",
        "FactorizedConv(10**12, 10**12, (3, 3), rank=10**6)",
    ],
    "Choosing a format and how it runs": [
        "FactorizedConv(16, 32, (3, 3), factorization='tuker')",
        "FactorizedConv(16, 32, (3, 3), factorization=nn.Conv2d)",
        "FactorizedConv(16, 32, (3, 3), implementation='mobile')",
        "FactorizedConv(16, 32, (3, 3), factorization='tucker', implementation='mobilenet')",
        "FactorizedConv(16, 32, (3, 3), transposed=True, implementation='fft')",
        "tenfold.factorizations.register('CP', tenfold.factorizations['cp'])",
        "tenfold.factorizations.register('cp', tenfold.factorizations['cp'])",
    ],
    "Choosing ranks": [
        "FactorizedConv(16, 32, (3, 3), rank=0)",
        "FactorizedConv(16, 32, (3, 3), rank=-0.5)",
        "FactorizedConv(16, 32, (3, 3), rank='half')",
        "FactorizedConv(16, 32, (3, 3), rank=(8, 8, 8), factorization='tucker')",
        "FactorizedConv(16, 32, (3, 3), rank=tenfold.Error(0.1))",
        "FactorizedConv(16, 32, (3, 3), rank='vbmf')",
        "tenfold.Error(1.5)",
    ],
    "Converting a trained layer": [
        "FactorizedConv.from_conv(nn.ReLU())",
        "FactorizedConv.from_conv(nn.LazyConv2d(32, 3))",
        "FactorizedConv.from_conv(conv, decomposition_kwargs={'n_iter_max': 10})",
        "FactorizedConv.from_conv(conv, decompose_weights='yes')",
        "FactorizedConv.from_factorization(conv.weight)",
        "FactorizedKernel.from_tensor(conv.weight / 0)",
    ],
    "Running it": [
        "layer(torch.randn(8, 3, 32, 32))",
        "layer(torch.randn(8, 16, 32, 32).double())",
        "layer(torch.randn(8, 16, 32, 32).numpy())",
        "layer(torch.randn(8, 16, 2, 32))",
        "layer(torch.randn(8, 16, 32, 32), output_size=(32, 32))",
        "layer.macs(32)",
    ],
}


def scope() -> dict[str, Any]:
    """What the lines of code may name."""
    made = tenfold.FactorizedConv(16, 32, (3, 3))
    return {
        "torch": torch,
        "nn": nn,
        "tenfold": tenfold,
        "FactorizedConv": tenfold.FactorizedConv,
        "FactorizedKernel": tenfold.FactorizedKernel,
        "conv": nn.Conv2d(16, 32, 3, padding=1),
        "layer": made,
    }


def refusal(code: str) -> str:
    """The message of a line of code; raises `ValueError` where it is no mistake."""
    try:
        with mock.patch.dict(os.environ, ALONE), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # where that one is not installed
            eval(code, scope())
    except (ValueError, TypeError) as fault:
        return f"{type(fault).__name__}: {fault}"
    raise ValueError(f"{code} is no mistake")


def page() -> str:
    """The page, written anew."""
    parts = [HEAD.format(count=sum(map(len, MISTAKES.values())))]
    for title, lines in MISTAKES.items():
        parts.append(f"## {title}\n\n| what was written | what it says |\n|---|---|\n")
        for code in lines:
            said = refusal(code).replace("|", "\\|")
            parts.append(f"| `{code}` | {said} |\n")
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
