"""The command `tenfold`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..plugin import BAD, list_plugins
from .bench import bench
from .compress import compress, report
from .doctor import doctor
from .new_plugin import new_plugin
from .options import check_plot, read_rank
from .tune import tune

main = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Smaller, faster convolutions by tensor factorization.",
)
console = Console()
main.command()(bench)
main.command()(compress)
main.command()(report)
main.command()(doctor)
main.command()(tune)
main.command()(new_plugin)


@main.command()
def plugins(
    load: Annotated[
        bool, typer.Option("--load", help="Import each; exit 1 if any is broken or ambiguous.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the installed factorizations, implementations and hooks."""
    listed = list_plugins(load)
    if as_json:
        typer.echo(json.dumps([one.as_dict() for one in listed], indent=2))
    else:
        shown = Table()
        for title in ("kind", "name", "state", "distribution", "target"):
            shown.add_column(title, overflow="fold", no_wrap=title in ("kind", "name", "state"))
        for one in listed:
            style = "red" if one.state in BAD else ""
            origin = f"{one.distribution} {one.version}"
            words = (one.kind, one.name, one.state, origin, one.target)
            shown.add_row(*map(Text, words), style=style)
        console.print(shown)
        for one in listed:
            if one.detail:
                console.print(f"{one.distribution}:{one.name}: {one.detail}", markup=False)
    if load and any(one.state in BAD for one in listed):
        raise typer.Exit(1)


@main.command()
def demo(
    rank: Annotated[
        str, typer.Option(help="'same', a fraction of the parameters (0.5) or a rank (16).")
    ] = "0.5",
    plot: Annotated[
        Path | None, typer.Option(help="Draw accuracy against MACs to this PNG, PDF or SVG.")
    ] = None,
) -> None:
    """Compress a trained network by each installed pair, on real images."""
    from ..demo import run, show

    request = read_rank(rank)
    try:
        run.check_rank(request)
    except (ValueError, TypeError) as fault:
        raise typer.BadParameter(str(fault), param_hint="--rank") from None
    check_plot(plot)
    found: list[run.Measured] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")
        for step in run.run_demo(request):
            if isinstance(step, str):
                progress.update(task, description=step)
            elif isinstance(step, run.LeftOut):
                console.print(f"{step.name} is left out: {step.reason}", markup=False)
            else:
                found.append(step)
    console.print(show.table(found, rank))
    if plot is not None:
        show.plot(found, plot)
        console.print(f"drawn: {plot}")
