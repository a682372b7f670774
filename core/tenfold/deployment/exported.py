"""What an export wrote, and what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Variant:
    """A network in a file: its `name` and `bytes`, `milliseconds` of a run, the output's change.

    That is `error`, None for a dense network beside a factorized one, whose numbers do not count.
    """

    name: str
    bytes: int
    milliseconds: float
    error: float | None


@dataclass(frozen=True)
class Exported:
    """A file that was written, checked and timed; `print` shows its table.

    `path` is the file, `runtime` what `place` describes: where it was run. `variants` are the
    network with its layers `dense` (which takes the original's time), `factorized` as it is, and in
    `int8`, as far as there are such; the last is in the file. `left` are the operators with weights
    that an int8 file has in float32, for the sake of `max_error`. `open` says what of the `inputs`
    may have other sizes, of `"batch"` and `"sizes"`. Made by `export`.

    >>> import tempfile
    >>> layer = FactorizedConv(3, 8, (3, 3), rank=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = export(layer, f"{folder}/net.onnx", example_inputs=torch.randn(1, 3, 9, 9))
    >>> isinstance(made, Exported), made.open, [one.name for one in made.variants]
    (True, ('batch', 'sizes'), ['dense', 'factorized'])
    >>> made.table().row_count
    2
    """

    path: Path
    runtime: str
    place: str
    variants: tuple[Variant, ...]
    left: tuple[str, ...]
    open: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...]

    def table(self) -> Table:
        """A row for each variant, for a terminal."""
        from rich import box
        from rich.table import Table

        shapes = ", ".join("×".join(map(str, shape)) for shape in self.inputs)
        sizes = " and ".join(self.open) or "nothing, sizes are fixed"
        left = f"in float32 for max_error: {', '.join(self.left)}\n" if self.left else ""
        shown = Table(
            title=f"{self.path.name}: {self.place}",
            caption=f"one run on {shapes}, all in turn, in their files; change: of the output, on "
            f"the calibration.\n{left}open: {sizes}",
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            min_width=80,
        )
        shown.add_column("network")
        for title in ("kB", "ms", "speed", "change"):
            shown.add_column(title, justify="right", no_wrap=True)
        slowest = self.variants[0].milliseconds
        for one in self.variants:
            error = "–" if one.error is None else f"{one.error:.2g}"
            speed = f"{slowest / one.milliseconds:.2f}×"
            shown.add_row(
                one.name, f"{one.bytes / 1e3:.0f}", f"{one.milliseconds:.3f}", speed, error
            )
        return shown

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=80, force_terminal=False, color_system=None)
        with console.capture() as captured:
            console.print(self.table())
        return captured.get().rstrip()
