"""The command `tenfold`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from .bench import bench
from .compress import compress
from .demo import demo
from .doctor import doctor
from .export import export
from .new_plugin import new_plugin
from .plugins import plugins
from .report import report
from .sensitivity import sensitivity
from .tune import tune

main = typer.Typer(no_args_is_help=True, add_completion=False)
for command in (
    demo,
    compress,
    sensitivity,
    report,
    export,
    bench,
    tune,
    plugins,
    new_plugin,
    doctor,
):
    main.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tenfold {version('tenfold')}, torch {version('torch')}")
        raise typer.Exit


@main.callback()
def _of_all(
    _: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Smaller, faster convolutions by tensor factorization."""
