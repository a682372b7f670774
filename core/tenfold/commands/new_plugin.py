"""`tenfold new-plugin`: a package of plugins that works, to be changed into one's own."""

from __future__ import annotations

import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
TEMPLATE = ".in"  # how the template's files end, so that none is taken for one of tenfold's own


def new_plugin(
    name: Annotated[str, typer.Argument(help="Of the package: lower-case words, parted by '-'.")],
    directory: Annotated[
        Path, typer.Option("--in", help="Where its folder is made.", file_okay=False)
    ] = Path(),
) -> None:
    """Write a package with a format, an implementation and a hook, whose tests pass."""
    if not NAME.fullmatch(name):
        raise typer.BadParameter(f"{name!r} must be lower-case words, parted by '-', as my-formats")
    place = directory / name
    if place.exists():
        raise typer.BadParameter(f"{place} is there already: give another name, or --in")
    written = write(name, place)
    console = Console()
    for path in written:
        console.print(f"{path}", markup=False, highlight=False)
    console.print(f"\ncd {place} && pip install -e '.[test]' && pytest", markup=False)


def write(name: str, place: Path) -> list[Path]:
    """Write the package `name` to `place`, which is not there yet; returns its files."""
    module = name.replace("-", "_")
    words = {"NAME": name, "MODULE": module, "CLASS": camel(name), "TENFOLD": version("tenfold")}
    written = []
    for path, text in sorted(template()):
        for key, word in words.items():
            path, text = path.replace(f"@{key}@", word), text.replace(f"@{key}@", word)
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written


def camel(name: str) -> str:
    """The words of a name as a class has them."""
    return "".join(word.capitalize() for word in name.split("-"))


def template() -> list[tuple[str, str]]:
    """The files of the template, by where they go."""
    return [
        (path.removesuffix(TEMPLATE), text)
        for path, text in _read(files("tenfold.commands").joinpath("template"), "")
    ]


def _read(folder: Any, before: str) -> list[tuple[str, str]]:
    found = []
    for one in folder.iterdir():
        path = f"{before}{one.name.replace('dot-', '.', 1)}"
        if one.is_dir():
            found += _read(one, f"{path}/")
        elif one.name.endswith(TEMPLATE):
            found.append((path, one.read_text(encoding="utf-8")))
    return found
