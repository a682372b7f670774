"""The command `tenfold demo`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..algebra import on_one_thread
from .options import check_plot, read_rank

if TYPE_CHECKING:
    from ..demo import LeftOut, Measured

FURTHER = "Your own: tenfold compress --help, docs/compress.md. More formats: tenfold demo --pairs"


def demo(
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Show every installed format, run every way.")
    ] = False,
    rank: Annotated[
        str, typer.Option(help="Of the formats: 'same', a fraction (0.25) or a rank (16).")
    ] = "0.25",
    plot: Annotated[
        Path | None, typer.Option(help="Draw accuracy against MACs to this PNG, PDF or SVG.")
    ] = None,
) -> None:
    """Compress a trained network at two budgets, on real images; then show a few formats alone."""
    from ..demo import (
        Setting,
        budgets_table,
        check_rank,
        draw_demo,
        formats_table,
        run_budgets,
        run_formats,
    )

    request = read_rank(rank)
    try:
        check_rank(request)
    except (ValueError, TypeError) as fault:
        raise typer.BadParameter(str(fault), param_hint="--rank") from None
    check_plot(plot)
    console = Console()
    with on_one_thread(0):  # whose times other work on the machine disturbs least
        setting = Setting()
        networks = _measured(run_budgets(setting), console)
        console.print(budgets_table(networks, setting))
        formats = _measured(run_formats(setting, request, pairs), console)
        console.print(formats_table(formats, networks[0], rank))
    if plot is None:
        console.print(FURTHER, markup=False)
    else:
        draw_demo(networks, formats, setting, plot)
        console.print(f"drawn: {plot}", markup=False)


def _measured(steps: Iterable[Measured | LeftOut | str], console: Console) -> list[Measured]:
    """What was measured; meanwhile what is being done is shown."""
    from ..demo import LeftOut

    found: list[Measured] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")
        for step in steps:
            if isinstance(step, str):
                progress.update(task, description=step)
            elif isinstance(step, LeftOut):
                console.print(f"{step.name} is left out: {step.reason}", markup=False)
            else:
                found.append(step)
    return found
