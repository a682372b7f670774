"""What a compression did: data that can be read, drawn, printed and stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ..request import first_fault
from . import chart, page, words
from .findings import Findings

if TYPE_CHECKING:
    from rich.table import Table


class Report(Findings):
    """A whole compression: `print` shows its table, and a notebook its page.

    MACs and milliseconds are those of one run on `inputs`, shapes, on `device` with `threads`.
    `error` is the relative change of the network's output on held-out inputs; `score` what the
    user's `evaluate` gave. `curve` has a point for each budget that was asked for.
    """

    def to_json(self) -> str:
        """All of it as JSON, which `from_json` reads."""
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote; raises `ValueError`, naming the field, for anything else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as fault:
            raise ValueError(first_fault(fault)) from None

    def table(self) -> Table:
        """The factorized layers and the totals, for a terminal of 80 columns."""
        from . import terminal  # rich is imported when asked for

        return terminal.table(self)

    def __str__(self) -> str:
        from . import terminal

        return terminal.text(self.table())

    def __repr__(self) -> str:
        changes = [*words.changes(self), f"error {words.error(self.error)}"]
        return f"<{type(self).__name__}: {', '.join(changes)}>"

    def __rich__(self) -> Table:
        return self.table()

    def _repr_html_(self) -> str:
        return page.fragment(self)

    def plot(self, path: str | Path) -> None:
        """Draw where the budget went, and error against budget, to a PNG, PDF or SVG file.

        Raises `ValueError` for another kind of file, and `ImportError` for a PNG or PDF without
        matplotlib.
        """
        chart.plot(self, Path(path))

    def to_html(self, path: str | Path | None = None) -> str:
        """One page with everything on it, which loads nothing; written to `path` if given.

        Raises `OSError` where it cannot be written.
        """
        text = page.page(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text
