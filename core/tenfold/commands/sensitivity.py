"""The command `tenfold sensitivity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..compression import measure_layers
from . import options as read
from .compress import read_batches, read_part
from .weights import fill

Names = list[str] | None
Option = typer.Option


def sensitivity(
    model: Annotated[
        str, typer.Argument(metavar="MODULE:FACTORY", help="A function: the network.")
    ],
    data: Annotated[str, Option("--data", help="module:loader of batches; labels are left out.")],
    inputs: Annotated[
        str | None, Option("--inputs", help="Which part of a batch counts: an index, or a key.")
    ] = None,
    weights: Annotated[
        Path | None, Option("--weights", help="The network's numbers: .safetensors, or .pt.")
    ] = None,
    metric: Annotated[
        str, Option("--metric", help="parameters, macs (by default) or latency.")
    ] = "macs",
    factorizations: Annotated[
        Names,
        Option("--factorization", "--factorizations", help="A format to use; may be repeated."),
    ] = None,
    include: Annotated[
        Names, Option("--include", help="Only layers of this name, with * and ?; repeat it.")
    ] = None,
    exclude: Annotated[Names, Option("--exclude", help="No layer of this name; repeat it.")] = None,
    table: Annotated[
        Path | None, Option("--table", help="Where what is measured is kept, for `compress`.")
    ] = None,
    plot: Annotated[Path | None, Option("--plot", help="Draw it to this PNG, PDF or SVG.")] = None,
    progress: Annotated[bool, Option("--progress/--no-progress")] = True,
    threads: read.Threads = None,
) -> None:
    """Tell for each layer what half, a quarter and a tenth of it would cost the network.

    tenfold sensitivity models:resnet --weights w.safetensors --data data:batches --table measured
    """
    read.check_plot(plot, svg_needs_none=True)
    read.set_threads(threads)
    network = read.read_model(model, "MODULE:FACTORY").eval()
    if weights is not None:
        fill(network, weights)
    batches = read_batches(data)
    asked = {"factorizations": factorizations, "include": include, "exclude": exclude}
    fields: dict[str, Any] = {name: value for name, value in asked.items() if value}
    try:
        found = measure_layers(
            network,
            example_inputs=batches[0],
            calibration=batches,
            inputs=read_part(inputs),
            table=table,
            metric=metric,
            progress=progress,
            **fields,
        )
    except (ValueError, TypeError) as fault:
        raise typer.BadParameter(str(fault)) from None
    Console().print(found.table())
    if plot is not None:
        found.plot(plot)
        typer.echo(f"drawn: {plot}")
