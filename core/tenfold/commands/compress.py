"""The command `tenfold compress`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import nn

from ..compression import MANIFEST, Order, check_free, read_order, save
from ..compression import compress as run
from . import options as read
from .weights import fill

Names = list[str] | None
Option = typer.Option


def compress(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODULE:FACTORY]", help="A function: the network.")
    ] = None,
    output: Annotated[Path | None, Option("--output", "-o", help="The directory to write.")] = None,
    config: Annotated[
        Path | None, Option("--config", "-c", help="A TOML file with any of these options.")
    ] = None,
    weights: Annotated[
        Path | None, Option("--weights", help="The network's numbers: .safetensors, or .pt.")
    ] = None,
    data: Annotated[
        str | None, Option("--data", help="module:loader of batches; labels are left out.")
    ] = None,
    inputs: Annotated[
        str | None, Option("--inputs", help="Which part of a batch counts: an index, or a key.")
    ] = None,
    without_data: Annotated[
        bool | None, Option("--without-data", help="Go on with noise, to try the command out.")
    ] = None,
    score: Annotated[
        str | None, Option("--score", help="module:function of a network: shown, before and after.")
    ] = None,
    evaluate: Annotated[
        str | None,
        Option("--evaluate", help="Likewise, but it steers: slow, and no place for a test set."),
    ] = None,
    shapes: Annotated[
        Names, Option("--input", help="Shape to measure on, as 1,3,224,224; once for each input.")
    ] = None,
    budget: Annotated[
        float | None, Option("--budget", help="What may be left, as a fraction.")
    ] = None,
    budgets: Annotated[
        list[float] | None, Option("--budgets", help="One of several, for a curve; repeat it.")
    ] = None,
    max_error: Annotated[
        float | None, Option("--max-error", help="Instead: the largest change of the output.")
    ] = None,
    min_score: Annotated[
        float | None, Option("--min-score", help="Instead: the least score.")
    ] = None,
    metric: Annotated[
        str | None, Option("--metric", help="parameters, macs (by default) or latency.")
    ] = None,
    bits: Annotated[
        int | None, Option("--bits", help="8: for a network that is exported with --int8.")
    ] = None,
    runtime: Annotated[
        str | None, Option("--runtime", help="Where milliseconds are measured, as onnxruntime.")
    ] = None,
    objective: Annotated[
        str | None, Option("--objective", help="measured (by default), energy or uniform.")
    ] = None,
    factorizations: Annotated[
        Names,
        Option("--factorization", "--factorizations", help="A format to use; may be repeated."),
    ] = None,
    implementations: Annotated[
        Names,
        Option("--implementation", "--implementations", help="A way to run it; may be repeated."),
    ] = None,
    include: Annotated[
        Names, Option("--include", help="Only layers of this name, with * and ?; repeat it.")
    ] = None,
    exclude: Annotated[Names, Option("--exclude", help="No layer of this name; repeat it.")] = None,
    joint: Annotated[
        Names, Option("--joint", help="Layers of this name share a network, if it pays; repeat it.")
    ] = None,
    multiple: Annotated[int | None, Option("--multiple", help="Ranks are multiples of it.")] = None,
    correct: Annotated[
        bool | None, Option("--correct/--no-correct", help="Fit layers to the original's outputs.")
    ] = None,
    refine: Annotated[
        str | None, Option("--refine", help="blocks (by default) or off: a short training.")
    ] = None,
    never_slower: Annotated[
        bool | None,
        Option("--never-slower/--no-never-slower", help="No layer slower than dense in its place."),
    ] = None,
    holdout: Annotated[
        float | None, Option("--holdout", help="The fraction of the data that is judged on.")
    ] = None,
    probes: Annotated[
        int | None, Option("--probes", help="Batches that single layers are judged on.")
    ] = None,
    memory: Annotated[int | None, Option("--memory", help="Bytes that moments may take.")] = None,
    seed: Annotated[int | None, Option("--seed")] = None,
    progress: Annotated[bool | None, Option("--progress/--no-progress")] = None,
    table: Annotated[
        Path | None, Option("--table", help="Where what is measured is kept, for the next budget.")
    ] = None,
    threads: read.Threads = None,
) -> None:
    """Make a trained network smaller and faster, and write it to a directory.

    tenfold compress models:resnet --weights w.safetensors --data data:batches --budget 0.25 -o dir

    Interrupted, the same command goes on where it was. For another budget, what was measured counts
    again. In the file of --config the options have these names too, and the argument `model`.
    """
    line = {name: value for name, value in locals().items() if name not in ("config", "shapes")}
    sizes = [read.read_numbers(text, "--input") for text in shapes or ()]
    try:
        order = read_order(config, {**line, "inputs": read_part(inputs), "input": sizes})
        check_free(order.output, MANIFEST)
    except (ValueError, OSError) as fault:
        raise typer.BadParameter(str(fault)) from None
    read.set_threads(order.threads)
    arguments = _arguments(order)
    try:
        made = run(read_network(order), order.config, table=order.measured, **arguments)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; the same command goes on from {order.measured}", err=True)
        raise typer.Exit(130) from None
    except (ValueError, TypeError) as fault:
        raise typer.BadParameter(str(fault)) from None
    save(made, order.output)
    Console().print(made.report.table())
    typer.echo(f"written: {order.output}; for another budget, what was measured: {order.measured}")


def read_network(order: Order) -> nn.Module:
    """The network that was asked for, with its numbers, in eval mode."""
    model = read.read_model(order.model, "MODULE:FACTORY").eval()
    if order.weights is not None:
        fill(model, order.weights)
    return model


def _arguments(order: Order) -> dict[str, Any]:
    """The inputs and the scores that `compress` takes."""
    batches = None if order.data is None else read_batches(order.data)
    if batches is None and not order.without_data:
        raise typer.BadParameter(
            "without inputs of its own a network loses what it has learnt: give batches of them, "
            "a few hundred samples in all, or --without-data to go on with noise",
            param_hint="--data",
        )
    if batches is None and not order.input:
        raise typer.BadParameter(
            "--without-data needs the shape of a batch, as 1,3,224,224", param_hint="--input"
        )
    if order.input:
        generator = torch.Generator().manual_seed(order.seed)
        example: Any = tuple(torch.randn(shape, generator=generator) for shape in order.input)
    else:
        example = batches[0] if batches else None
    named = {"score": order.score, "evaluate": order.evaluate}
    scores = {
        name: read.read_target(text, f"--{name}", "function")
        for name, text in named.items()
        if text is not None
    }
    given = {"example_inputs": example, "calibration": batches, "inputs": order.inputs}
    return {**given, **scores}


def read_part(text: str | None) -> int | str | None:
    """Which part of a batch: an index, or a key."""
    return int(text) if text is not None and text.lstrip("-").isdigit() else text


def read_batches(text: str) -> list[Any]:
    """The batches that `module:loader` gives."""
    found = read.read_target(text, "--data", "loader")
    found = found() if callable(found) and not isinstance(found, Iterable) else found
    if not isinstance(found, Iterable):
        raise typer.BadParameter(
            f"{text!r} gives a {type(found).__name__}: it must give batches", param_hint="--data"
        )
    batches = list(found)
    if not batches:
        raise typer.BadParameter(f"{text!r} gives no batch", param_hint="--data")
    return batches
