"""A network written to a file, by its suffix; and a file made ready in a runtime."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from ..compression.running import Flat
from ..model import open_axes, to_onnx, to_plain
from ..plugin import Ready, ask, runtimes

RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "eager"}  # each file's own
Inputs = tuple[Tensor, ...]


def write(network: Flat, inputs: Inputs, path: Path) -> None:
    """Write a network, for any batch and size that it takes itself.

    Raises `ValueError`, saying why, for what cannot be written so.
    """
    if path.suffix == ".pt2":
        _write_program(network, inputs, path)
    else:
        write_onnx(to_onnx(network, inputs, dynamic=True), path)


def write_onnx(model: bytes, path: Path) -> None:
    """Write ONNX as it is, or as OpenVINO's IR."""
    if path.suffix == ".onnx":
        path.write_bytes(model)
        return
    try:
        import openvino
    except ImportError:
        raise ValueError(f"{path.suffix} needs OpenVINO: pip install 'tenfold[openvino]'") from None
    made: Any = openvino.Core().read_model(model)
    openvino.save_model(made, path, compress_to_fp16=False)


def _write_program(network: Flat, inputs: Inputs, path: Path) -> None:
    auto = torch.export.Dim.AUTO  # open, where the network has no size of its own there
    sizes = tuple(dict.fromkeys(open_axes(x, ""), auto) for x in inputs)
    several = tuple(torch.cat([x, x]) if x.dim() else x for x in inputs)  # one alone stays one
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it does to weights in groups
            program = torch.export.export(to_plain(network), several, dynamic_shapes=(sizes,))
            torch.export.save(program, path)
    except Exception as fault:
        reason = (str(fault).splitlines() or [""])[0]
        raise ValueError(
            f"torch.export cannot export it ({type(fault).__name__}: {reason})"
        ) from fault


def opened(runtime: str, path: Path) -> Ready:
    """A file made ready; raises `ValueError`, naming the runtime, for one that it does not open."""
    choice = runtimes.choose(runtime)
    try:
        return ask(choice.plugin.open, path)
    except ValueError as refusal:
        raise ValueError(f"runtime={choice.spelled} cannot open it: {refusal}") from refusal


def size_of(path: Path) -> int:
    """Bytes of a file, and of what stands beside it under its name."""
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.stem}.*"))


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A folder to write in beside `path`, gone at the end."""
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        yield Path(folder)


def put(made: Path, path: Path) -> None:
    """Move a file, and what stands beside it under its name, to where it was asked for."""
    for one in made.parent.glob(f"{made.stem}.*"):
        os.replace(one, path.with_name(path.stem + one.suffix))
