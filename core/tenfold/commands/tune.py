"""The command `tenfold tune`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ..layer import PLAIN, FactorizedConv, Member
from ..model import Seen, open_layers, seen_by
from ..plugin import factorizations, runtimes
from ..tuning import EAGER, Decision, cache_folder, device_name, in_turn, way_in_words
from ..tuning import clear as clear_choices
from . import options as read

Layer = FactorizedConv | Member
Task = tuple[str, Layer, Seen]
SECONDS, NOISE = 0.05, 0.1  # of a kept choice beside dense; what may be chance


def tune(
    shape: read.Shape = None,
    size: read.Size = "56",
    batch: read.Batch = 1,
    stride: read.Stride = 1,
    groups: read.Groups = 1,
    model: read.Model = None,
    inputs: read.Input = None,
    ranks: read.Ranks = None,
    align: read.Align = None,
    formats: read.Formats = None,
    channels_last: Annotated[
        bool, typer.Option("--channels-last/--contiguous", help="Memory format of the inputs.")
    ] = True,
    device: read.Device = "cpu",
    dtype: read.Dtype = read.Precision.float32,
    threads: read.Threads = None,
    runtime: read.Runtime = "eager",
    again: Annotated[bool, typer.Option("--again", help="Measure what is known too.")] = False,
    clear: Annotated[
        bool, typer.Option("--clear", help="Delete all kept choices, no more.")
    ] = False,
) -> None:
    """Measure, ahead, how layers with implementation='auto' run best here, and keep the choices.

    tenfold tune 64 64 3 --size 56 --batch 8 --rank 0.25

    tenfold tune --model package.module:make_model --input 8,3,224,224
    """
    if clear:
        count = clear_choices()
        typer.echo(f"deleted: {count} kept choices in {cache_folder() or 'memory'}")
        return
    read.set_threads(threads)
    where = read.read_device(device)
    runtime = read.read_names([runtime], runtimes, "--runtime")[0]
    if model is None:
        conv, input_shape = read.read_shape(shape, size, batch, stride, groups)
        seen = Seen(input_shape, dtype.dtype, where, channels_last)
        names = read.read_names(formats, factorizations, "--factorization")
        tasks = list(_of_a_shape(conv, seen, names, read.read_ranks(ranks, align, ("0.25",))))
        conv.to(where, dtype.dtype)
    else:
        tasks = _of_a_model(model, read.read_inputs(inputs, where, dtype.dtype), channels_last)
    table = Table(
        title=_title(where, runtime), caption=f"kept in {cache_folder() or 'memory alone'}"
    )
    for title in ("layer", "runs", "ms", "dense ms"):
        table.add_column(title, justify="right" if "ms" in title else "left", overflow="fold")
    slower: list[str] = []
    with read.progress() as progress:
        bar = progress.add_task("", total=len(tasks))
        for name, layer, seen in tasks:
            progress.update(bar, description=name)
            decision = _tuned(layer, seen, again, runtime)
            table.add_row(name, *_cells(decision))
            if runtime == EAGER and not again and _lost(layer, decision, seen.draw()):
                slower.append(name)
            progress.advance(bar)
    Console().print(table)
    if slower:
        typer.echo(
            f"slower than dense now, as kept: {', '.join(slower)}; --again measures anew", err=True
        )


def _tuned(layer: Layer, seen: Seen, again: bool, runtime: str) -> Decision:
    try:
        return layer.tune(seen.draw(), again, runtime=runtime)
    except ValueError as refusal:
        if runtime == EAGER:
            raise
        raise typer.BadParameter(str(refusal), param_hint="--runtime") from None


def _of_a_shape(
    conv: nn.Module, seen: Seen, formats: list[str], ranks: list[Any]
) -> Iterator[Task]:
    for name in formats:
        for rank in ranks:
            layer = FactorizedConv.from_conv(
                conv, rank=rank, factorization=name, implementation="auto", decompose_weights=False
            )
            yield f"{name} {rank}", layer.eval(), seen


def _of_a_model(model: str, inputs: tuple[Tensor, ...], channels_last: bool) -> list[Task]:
    made = read.read_model(model).eval().to(inputs[0].device, inputs[0].dtype)
    if channels_last:
        made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = tuple(one.contiguous(memory_format=torch.channels_last) for one in inputs)
    try:
        layers = open_layers(made)
    except ValueError as fault:
        raise typer.BadParameter(str(fault), param_hint="--model") from None
    with read.check_inputs():
        seen = seen_by(made, layers, inputs)
    return [(name, layers[name], one) for name, one in seen.items()]


@torch.no_grad()
def _lost(layer: Layer, decision: Decision, x: Tensor) -> bool:
    """Whether a layer as decided is by more than noise slower than dense, both run now."""
    if len(decision.partition) == 1 or layer.config.order > len(PLAIN):
        return False
    dense = layer.to_conv().eval()
    mine, theirs = in_turn([partial(layer, x), partial(dense, x)], x.device, SECONDS)
    return mine.milliseconds > (1 + NOISE) * theirs.milliseconds


def _cells(decision: Decision) -> tuple[str, str, str]:
    words = way_in_words(decision)
    [taken] = [one.milliseconds for one in decision.measured if way_in_words(one) == words]
    dense = min(one.milliseconds for one in decision.measured if len(one.partition) == 1)
    return words, f"{taken:.3f}", f"{dense:.3f}"


def _title(device: torch.device, runtime: str) -> str:
    threads = torch.get_num_threads()
    name = device_name(device)
    place = "" if runtime == EAGER else f", in {runtime}"
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}, torch {torch.__version__}{place}"
