"""The command `tenfold plugins`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..plugin import BAD, Listed, list_plugins

TITLES = ("name", "state", "distribution", "target")


def plugins(
    load: Annotated[
        bool, typer.Option("--load", help="Import each; exit 1 if any is broken or ambiguous.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the installed factorizations, implementations, runtimes and hooks."""
    listed = list_plugins(load)
    if as_json:
        typer.echo(json.dumps([one.as_dict() for one in listed], indent=2))
    else:
        console = Console()
        for kind, some in groupby(listed, key=lambda one: one.kind):
            console.print(_table(kind, list(some), console.width))
        for one in listed:
            if one.detail:
                console.print(f"{one.distribution}:{one.name}: {one.detail}", markup=False)
    if load and any(one.state in BAD for one in listed):
        raise typer.Exit(1)


def _width(column: Sequence[str]) -> int:
    return max(len(line) for cell in column for line in cell.splitlines()) + 1


def _table(kind: str, listed: Sequence[Listed], width: int) -> Table:
    """Those of one kind; a target that does not fit stands on two lines, parted at its colon, and
    where that does not do, so does each distribution, its version below."""
    longest = max(len(part) for one in listed for part in one.target.split(":")) + 1
    for hyphen, gap in (("-", " "), ("-", "\n"), ("-\n", "\n")):
        rows = [
            (one.name, one.state, f"{one.distribution.replace('-', hyphen)}{gap}{one.version}")
            for one in listed
        ]
        taken = sum(map(_width, zip(*(*rows, TITLES[:3]), strict=True)))
        if taken + longest <= width:
            break
    shown = Table(
        title=Text(kind),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        pad_edge=False,
    )
    for title in TITLES:
        shown.add_column(title, overflow="fold", no_wrap=title != "target")
    for one, row in zip(listed, rows, strict=True):
        fits = taken + len(one.target) <= width
        target = one.target if fits else one.target.replace(":", ":\n")
        style = "red" if one.state in BAD else ""
        shown.add_row(*map(Text, (*row, target)), style=style)
    return shown
