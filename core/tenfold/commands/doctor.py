"""`tenfold doctor`: what a bug report needs to say of an installation."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import nn

from ..layer import FactorizedConv
from ..plugin import BAD, implementations, list_plugins
from ..solve import relative_error
from ..tuning import CACHE, cache_folder

REQUIRED = (
    *("tenfold", "torch", "numpy", "opt_einsum", "pluggy", "pydantic"),
    *("rich", "safetensors", "typer", "platformdirs"),
)
OPTIONAL = (
    *("tensorly", "tensorly-torch", "matplotlib", "hypothesis"),
    *("onnx", "onnxruntime", "openvino"),
)
VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TENFOLD_CACHE",
    "TENFOLD_DISABLE",
    "TENFOLD_TRACE",
)
Findings = dict[str, dict[str, str]]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show versions, devices, threads, caches and plugins, and try a small conversion.

    Exits 1 where something is wrong.
    """
    found = examine()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        table = Table(show_header=False, box=box.SIMPLE, padding=(0, 1, 0, 0))
        for wraps in (False, False, True):
            table.add_column(overflow="fold", no_wrap=not wraps)
        for section, lines in found.items():
            for index, (name, value) in enumerate(lines.items()):
                style = "red" if value.startswith("WRONG") else ""
                table.add_row(*map(Text, ("" if index else section, name, value)), style=style)
            table.add_section()
        Console().print(table)
    if any(value.startswith("WRONG") for lines in found.values() for value in lines.values()):
        raise typer.Exit(1)


def examine() -> Findings:
    """Everything that is shown, by section and name; what is wrong begins with `WRONG: `."""
    return {
        "versions": versions(),
        "devices": devices(),
        "threads": {
            "of an operation": str(torch.get_num_threads()),
            "between operations": str(torch.get_num_interop_threads()),
            "processors": str(os.cpu_count()),
        },
        "variables": {name: os.environ.get(name, "not set") for name in VARIABLES},
        "caches": {"choices of auto": judged(cache)},
        "plugins": plugins(),
        "conversion": conversions(),
    }


def versions() -> dict[str, str]:
    """Of Python, the system and the packages."""
    found = {
        "python": sys.version.split()[0],
        "system": platform.platform().replace("-with-", " with "),
    }
    for name in (*REQUIRED, *OPTIONAL):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed" if name in OPTIONAL else "WRONG: not installed"
    return found


def devices() -> dict[str, str]:
    """The processor and each accelerator."""
    found = {
        "cpu": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "oneDNN": str(torch.backends.mkldnn.is_available()),
    }
    for index in range(torch.cuda.device_count()):
        found[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    if torch.backends.mps.is_available():
        found["mps"] = "available"
    return found


def cache() -> str:
    """Where measured choices are kept, and how many."""
    folder = cache_folder()
    if folder is None:
        return "off"
    files = len(list((folder / "tuning").glob("*.json")))
    place = folder
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        raise OSError(f"{folder} cannot be written to: set TENFOLD_CACHE to another folder")
    return f"{folder} ({files} kept)"


def plugins() -> dict[str, str]:
    """Each plugin's state, imported."""
    return {
        f"{one.kind} {one.name}": f"WRONG: {one.state}: {one.detail}"
        if one.state in BAD
        else f"{one.state}, {one.distribution} {one.version}".removesuffix(", ")
        for one in list_plugins(load=True)
    }


def conversions() -> dict[str, str]:
    """A conversion of each common format; no choice that is measured meanwhile is kept on disk."""
    before = os.environ.get(CACHE)
    os.environ[CACHE] = "off"
    try:
        return {name: judged(convert, name) for name in ("cp", "tucker", "tt")}
    finally:
        del os.environ[CACHE]
        if before is not None:
            os.environ[CACHE] = before


def convert(factorization: str) -> str:
    """Convert a small layer at full rank, run it every way, differentiate it, and compare."""
    conv = nn.Conv2d(6, 8, 3, stride=(2, 1), padding=1)
    x = torch.randn(2, 6, 9, 9)
    ways, worst = [], 0.0
    for name in implementations.names():
        try:
            layer = FactorizedConv.from_conv(
                conv, rank=10**9, factorization=factorization, implementation=name
            )
        except ValueError as refusal:
            if "cannot run" not in str(refusal):
                raise
            continue
        layer(x).sum().backward()
        worst = max(worst, relative_error(conv(x), layer(x)))
        ways.append(name)
    if worst > 1e-4:
        raise ArithmeticError(f"the output is off by {worst:.0e} of its size")
    return f"equals the dense layer to {worst:.0e}: {', '.join(ways)}"


def judged(work: Callable[..., str], *given: str) -> str:
    """What `work` says, or what went wrong."""
    try:
        return work(*given)
    except Exception as fault:
        return f"WRONG: {type(fault).__name__}: {fault}"
