"""The command `tenfold compress`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..compression import MANIFEST, Order, check_free, read_order, save
from ..compression import compress as run
from . import options as read

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
        str | None, Option("--data", help="module:loader of batches of inputs, without labels.")
    ] = None,
    evaluate: Annotated[
        str | None, Option("--evaluate", help="module:function of a network: its score.")
    ] = None,
    inputs: Annotated[
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
    objective: Annotated[
        str | None, Option("--objective", help="measured (by default), energy or uniform.")
    ] = None,
    factorizations: Annotated[
        Names, Option("--factorization", help="A format to use; may be repeated.")
    ] = None,
    implementations: Annotated[
        Names, Option("--implementation", help="A way to run it; may be repeated.")
    ] = None,
    include: Annotated[
        Names, Option("--include", help="Only layers of this name, with * and ?; repeat it.")
    ] = None,
    exclude: Annotated[Names, Option("--exclude", help="No layer of this name; repeat it.")] = None,
    multiple: Annotated[int | None, Option("--multiple", help="Ranks are multiples of it.")] = None,
    correct: Annotated[
        bool | None, Option("--correct/--no-correct", help="Fit layers to the original's outputs.")
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
    line = {name: value for name, value in locals().items() if name not in ("config", "inputs")}
    shapes = [read.read_numbers(text, "--input") for text in inputs or ()]
    try:
        order = read_order(config, {**line, "input": shapes})
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
        try:
            model.load_state_dict(_numbers(order.weights))
        except (SafetensorError, RuntimeError, OSError, TypeError, EOFError) as fault:
            raise typer.BadParameter(f"{order.weights}: {fault}", param_hint="--weights") from None
    return model


def _numbers(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def _arguments(order: Order) -> dict[str, Any]:
    """The inputs and the score that `compress` takes."""
    batches = None if order.data is None else _batches(order.data)
    if batches is None and not order.input:
        raise typer.BadParameter(
            "give batches of inputs, or --input with the shape of one", param_hint="--data"
        )
    if order.input:
        generator = torch.Generator().manual_seed(order.seed)
        example: Any = tuple(torch.randn(shape, generator=generator) for shape in order.input)
    else:
        example = batches[0] if batches else None
    score = None
    if order.evaluate is not None:
        score = read.read_target(order.evaluate, "--evaluate", "function")
    return {"example_inputs": example, "calibration": batches, "evaluate": score}


def _batches(text: str) -> list[Any]:
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
