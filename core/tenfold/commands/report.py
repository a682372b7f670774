"""The command `tenfold report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..compression import has_report, load_report, saved_layers
from . import options as read

Option = typer.Option


def report(
    directory: Annotated[Path, typer.Argument(help="What was saved: a compression, or a model.")],
    html: Annotated[Path | None, Option("--html", help="Write a page to this file.")] = None,
    plot: Annotated[
        Path | None, Option("--plot", help="Draw charts to this PNG, PDF or SVG.")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a compression did, layer by layer and in all.

    Of a model that was saved without a report, its factorized layers.
    """
    read.check_plot(plot, svg_needs_none=True)
    read.check_folder(html, "--html")
    try:
        if not has_report(directory):
            _show_layers(directory, as_json, html or plot)
            return
        found = load_report(directory)
    except (ValueError, OSError) as fault:
        raise typer.BadParameter(str(fault), param_hint="DIRECTORY") from None
    if as_json:
        typer.echo(found.to_json())
    else:
        Console().print(found.table())
    if html is not None:
        found.to_html(html)
        typer.echo(f"written: {html}", err=as_json)
    if plot is not None:
        found.plot(plot)
        typer.echo(f"drawn: {plot}", err=as_json)


def _show_layers(directory: Path, as_json: bool, wanted: Path | None) -> None:
    saved = saved_layers(directory)
    if wanted is not None:
        raise ValueError(
            f"{wanted} would need a report, and {directory} has none: save the Compression, not "
            "its model alone"
        )
    if as_json:
        typer.echo(saved.to_json())
    else:
        Console().print(saved.table())
