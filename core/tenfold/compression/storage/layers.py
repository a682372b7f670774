"""What a saved network holds, read from its directory without building it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from ...arguments import check_path
from .manifest import REPORT, WEIGHTS, Entry, Manifest, read_manifest
from .weights import Stored, check_whole, read_stored

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class SavedLayers:
    """The factorized layers of a saved network, and how many numbers it has in all."""

    directory: Path
    manifest: Manifest
    stored: Stored

    def to_json(self) -> str:
        """What `tenfold.json` says."""
        return self.manifest.model_dump_json(indent=1)

    def table(self) -> Table:
        """A row for each, for a terminal of 80 columns."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        entries = self.manifest.all_layers
        shown = Table(
            title=f"{len(entries)} factorized layer{'s' if len(entries) != 1 else ''}",
            caption="params: of their own, and what is left of the dense layer's.\n"
            "No report was saved with it: tenfold.save(the Compression, …) keeps one.",
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        for title in ("layer", "kernel", "format", "run by", "rank", "params"):
            shown.add_column(title, overflow="fold")
        for entry in entries:
            shown.add_row(*map(Text, self._row(entry)))
        return shown

    def _row(self, entry: Entry) -> tuple[str, ...]:
        name = entry.names[0]
        shape = entry.config.shape
        prefix = f"{name}.weight.factors." if name else "weight.factors."
        own = sum(prod(size) for key, (size, _) in self.stored.items() if key.startswith(prefix))
        rank = entry.rank if isinstance(entry.rank, tuple) else (entry.rank,)
        more = f" (and {len(entry.names) - 1} more)" if len(entry.names) > 1 else ""
        return (
            f"{name}{more}",
            "×".join(map(str, shape)),
            entry.factorization,
            entry.implementation,
            ", ".join(map(str, rank)),
            f"{own:,} ({own / prod(shape):.0%})",
        )


def has_report(directory: str | Path) -> bool:
    """Whether a report was saved with the network in `directory`."""
    return (check_path("directory", directory) / REPORT).is_file()


def saved_layers(directory: str | Path) -> SavedLayers:
    """The layers of the network in `directory`; nothing is imported for them.

    Raises `FileNotFoundError` where there is none, and `ValueError` where it is damaged.
    """
    place = check_path("directory", directory)
    manifest = read_manifest(place)
    check_whole(place / WEIGHTS, manifest.weights_bytes, manifest.weights_sha256)
    return SavedLayers(place, manifest, read_stored(place / WEIGHTS, manifest.aliases))
