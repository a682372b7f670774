"""The command `tenfold export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import nn

from ..compression import MANIFEST, load
from ..deployment import export as run
from . import options as read
from .compress import read_batches
from .weights import fill

Option = typer.Option


def export(
    network: Annotated[
        str, typer.Argument(metavar="DIRECTORY|MODULE:FACTORY", help="What compress wrote, or any.")
    ],
    path: Annotated[Path, typer.Argument(help="The file to write: .onnx, .xml or .pt2.")],
    model: Annotated[
        str | None, Option("--model", help="module:factory of the network that was compressed.")
    ] = None,
    weights: Annotated[
        Path | None, Option("--weights", help="The network's numbers, where it is no directory.")
    ] = None,
    data: Annotated[
        str | None, Option("--data", help="module:loader of batches; labels are left out.")
    ] = None,
    shapes: Annotated[
        list[str] | None,
        Option("--input", help="Shape to time on, as 1,3,224,224; once for each input."),
    ] = None,
    int8: Annotated[bool, Option("--int8", help="Quantize it, calibrated on the data.")] = False,
    max_error: Annotated[
        float | None, Option("--max-error", help="The largest change of the output by --int8.")
    ] = None,
    runtime: Annotated[
        str | None, Option("--runtime", help="Where it is checked and timed; the file's own.")
    ] = None,
    threads: read.Threads = None,
) -> None:
    """Write a network for another program; check it and time it there, beside the dense one.

    tenfold export small small.onnx --model models:resnet --data data:batches --int8
    """
    read.set_threads(threads)
    made = _network(network, model, weights)
    batches = None if data is None else read_batches(data)
    if batches is None and (int8 or not shapes):
        why = "--int8 is calibrated on it" if int8 else "or a shape of inputs, --input 1,3,224,224"
        raise typer.BadParameter(f"give batches: {why}", param_hint="--data")
    example: Any = batches[0] if batches else None
    if shapes:
        example = read.read_inputs(shapes, torch.device("cpu"), torch.float32)
    options: dict[str, Any] = {"int8": int8, "max_error": max_error, "runtime": runtime}
    try:
        written = run(made, path, example_inputs=example, calibration=batches, **options)
    except (ValueError, TypeError) as fault:
        raise typer.BadParameter(str(fault)) from None
    Console().print(written)
    typer.echo(f"written: {path}")


def _network(network: str, model: str | None, weights: Path | None) -> nn.Module:
    """What a directory holds, or what a factory makes, in eval mode."""
    if not (Path(network) / MANIFEST).is_file():
        made = read.read_model(network, "DIRECTORY|MODULE:FACTORY").eval()
        if weights is not None:
            fill(made, weights)
        return made
    if model is None:
        raise typer.BadParameter(
            f"{network} holds the layers of a network: give the function that made it, as "
            "--model package.module:make_model",
            param_hint="--model",
        )
    try:
        return load(network, read.read_model(model)).eval()
    except (ValueError, TypeError, OSError) as fault:
        raise typer.BadParameter(str(fault), param_hint="DIRECTORY|MODULE:FACTORY") from None
