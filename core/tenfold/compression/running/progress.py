"""A progress bar on the standard error: stage, layer and time left; it goes when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Progress:
    """What is being done, and how much of it; shown where `display` is one of rich's."""

    def __init__(self, display: Any = None) -> None:
        self._display = display

    def say(self, text: str | None) -> None:
        """Leave a line above the bar, where there is one."""
        if self._display is not None and text is not None:
            self._display.console.print(text, markup=False, highlight=False)

    def over(
        self,
        items: Iterable[T],
        what: str,
        total: int | None = None,
        name: Callable[[T], str] | None = None,
    ) -> Iterator[T]:
        """Go through `items`, counting them: `name` says of the last what it was."""
        if self._display is None:
            yield from items
            return
        if total is None and isinstance(items, Sized):
            total = len(items)
        task = self._display.add_task(what, total=total)
        try:
            for item in items:
                yield item
                said = what if name is None else f"{what}, {name(item)}"
                self._display.update(task, advance=1, description=said)
        finally:
            self._display.remove_task(task)


@contextmanager
def shown(wanted: bool) -> Iterator[Progress]:
    """A progress bar, where it is wanted."""
    if not wanted:
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        yield Progress(display)
