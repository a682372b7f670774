"""The command `tenfold bench`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..bench import Requests, Results, Row, Task, draw_results, measure, results_table
from ..layer import PLAIN, TRANSPOSED, read_config
from ..model import Seen, seen_inputs
from ..plugin import factorizations, implementations, runtimes
from ..tuning import device_name
from . import options as read


def bench(
    shape: read.Shape = None,
    size: read.Size = "56",
    batch: read.Batch = 1,
    stride: read.Stride = 1,
    groups: read.Groups = 1,
    model: read.Model = None,
    inputs: read.Input = None,
    only: Annotated[
        list[str] | None, typer.Option("--layer", help="Only this layer; may be repeated.")
    ] = None,
    ranks: read.Ranks = None,
    align: read.Align = None,
    formats: read.Formats = None,
    ways: Annotated[
        list[str] | None, typer.Option("--implementation", help="Only this one; may be repeated.")
    ] = None,
    runtime: read.Runtime = "eager",
    weights: Annotated[
        Path | None, typer.Option(help="A safetensors file with the kernel to decompose.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The kernel's name in that file, as conv.weight.")
    ] = None,
    device: read.Device = "cpu",
    dtype: read.Dtype = read.Precision.float32,
    threads: read.Threads = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw time against error, or MACs, to PNG, PDF or SVG.")
    ] = None,
) -> None:
    """Time pairs × ranks on a layer, or on the layers of a model, beside dense in its best format.

    tenfold bench 64 64 3 --size 56 --batch 8 --rank 0.25 --rank 0.5

    tenfold bench --model package.module:make_model --input 1,3,224,224 --layer features.3
    """
    read.check_plot(plot)
    read.check_folder(as_json, "--json")
    read.set_threads(threads)
    where = read.read_device(device)
    requests = Requests(
        read.read_names(formats, factorizations, "--factorization"),
        read.read_names(ways, implementations, "--implementation"),
        read.read_ranks(ranks, align, ("0.25", "0.5")),
        read.read_names([runtime], runtimes, "--runtime")[0],
    )
    if model is not None:
        tasks = _of_a_model(model, read.read_inputs(inputs, where, dtype.dtype), only)
    else:
        conv, input_shape = read.read_shape(shape, size, batch, stride, groups)
        seen = Seen(input_shape, dtype.dtype, where)
        tasks = [_of_a_shape(conv.to(where, dtype.dtype), seen, weights, name)]
    try:
        results = _measured(tasks, requests)
    except ValueError as refusal:
        if requests.runtime == "eager":
            raise
        raise typer.BadParameter(str(refusal), param_hint="--runtime") from None
    console = Console()
    for layer in results.inputs:
        console.print(results_table(results, layer))
    if as_json is not None:
        as_json.write_text(results.model_dump_json(indent=1), encoding="utf-8")
        console.print(f"written: {as_json}", markup=False)
    if plot is not None:
        draw_results(results, plot)
        console.print(f"drawn: {plot}", markup=False)


def _measured(tasks: list[Task], requests: Requests) -> Results:
    rows: list[Row] = []
    each = 1 + len(requests.factorizations) * len(requests.ranks)
    with read.progress() as progress:
        bar = progress.add_task("", total=each * len(tasks))
        for task in tasks:
            for step in measure(task, requests):
                if isinstance(step, str):
                    progress.update(bar, description=step, advance=1)
                elif isinstance(step, Row):
                    rows.append(step)
    return Results(
        device=device_name(tasks[0].seen.device),
        threads=torch.get_num_threads(),
        dtype=str(tasks[0].seen.dtype).removeprefix("torch."),
        runtime=requests.runtime,
        versions={"torch": torch.__version__, "tenfold": version("tenfold")},
        inputs={task.name: task.seen.shape for task in tasks},
        rows=tuple(rows),
    )


def _of_a_shape(conv: Any, seen: Seen, weights: Path | None, name: str | None) -> Task:
    words = " × ".join(map(str, conv.weight.shape))
    if weights is None:
        if name is not None:
            raise typer.BadParameter("it goes with --weights", param_hint="--name")
        return Task(words, conv, seen, trained=False)
    kernel = _kernel(weights, name)
    if kernel.shape != conv.weight.shape:
        raise typer.BadParameter(
            f"{name} has shape {tuple(kernel.shape)}; the layer's is {tuple(conv.weight.shape)}",
            param_hint="--name",
        )
    with torch.no_grad():
        conv.weight.copy_(kernel)
    return Task(f"{name} {words}", conv, seen, trained=True)


def _kernel(weights: Path, name: str | None) -> Tensor:
    """Read one tensor of a safetensors file, refusing what is not there by its option."""
    try:
        with safe_open(weights, framework="pt") as file:
            names = sorted(file.keys())
            if name in names:
                kernel: Tensor = file.get_tensor(name)
                return kernel
    except (OSError, SafetensorError) as fault:
        raise typer.BadParameter(f"{weights}: {fault}", param_hint="--weights") from None
    raise typer.BadParameter(
        f"{name!r} is not in {weights}, which has {', '.join(names)}", param_hint="--name"
    )


def _of_a_model(model: str, inputs: tuple[Tensor, ...], only: list[str] | None) -> list[Task]:
    made = read.read_model(model).to(inputs[0].device, inputs[0].dtype)
    convs = {name: module for name, module in made.named_modules() if _is_plain(module)}
    if not convs:
        raise typer.BadParameter(f"{model!r} has no convolution", param_hint="--model")
    for name in only or ():
        if name not in convs:
            raise typer.BadParameter(
                f"{name!r} is none of its convolutions: {', '.join(convs)}",
                param_hint="--layer",
            )
    chosen = {name: conv for name, conv in convs.items() if not only or name in only}
    with read.check_inputs():
        seen = seen_inputs(made, chosen, inputs)
    return [
        Task(name, conv, seen[name], trained=True) for name, conv in chosen.items() if name in seen
    ]


def _is_plain(module: nn.Module) -> bool:
    if not isinstance(module, (*PLAIN, *TRANSPOSED)):
        return False
    try:
        read_config(module)
    except (TypeError, ValueError):
        return False
    return True
