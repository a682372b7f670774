"""What less of each layer would cost, as data, a table and a chart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..request import Metric
from . import svg, words

if TYPE_CHECKING:
    from rich.table import Table

COLORS = ("#cbd5e1", "#0f766e", "#b45309")
SUFFIXES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class LayerCost:
    """One layer: its share of what the network costs, and the errors of less of it.

    `errors` are the relative changes of the network's output when it alone is made so small, one
    for each fraction; None where nothing is. `formats` are those that have these errors.
    """

    name: str
    share: float
    errors: tuple[float | None, ...]
    formats: tuple[str | None, ...]


@dataclass(frozen=True, repr=False)
class Sensitivity:
    """What half, a quarter and a tenth of each layer would cost the network: see `survey`.

    `fractions` are of a layer's own `metric`; `layers` has one `LayerCost` for each, in the order
    of the network; `kept` are those that would stay dense, with the reason; `warnings` say why the
    numbers are to be doubted, if they are. `print` shows the table.

    >>> net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    >>> found = survey(net, example_inputs=torch.randn(4, 8, 12, 12), progress=False)
    >>> isinstance(found, Sensitivity), [layer.name for layer in found.layers]
    (True, ['0', '2'])
    >>> found.table().row_count
    2
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     found.plot(f"{directory}/it.png")
    """

    metric: Metric
    fractions: tuple[float, ...]
    layers: tuple[LayerCost, ...]
    kept: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = ()

    def table(self) -> Table:
        """One row for each layer, the most sensitive first, for a terminal of 80 columns."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        what = words.METRICS[self.metric]
        doubt = words.doubt(self.warnings)
        title = "What less of each layer alone changes at the network's output"
        caption = [
            f"share: of the network's {what}; in parentheses the format; –: nothing is so small"
        ]
        caption += [f"Dense: {words.name(name)} ({reason})." for name, reason in self.kept]
        shown = Table(
            title=Text(title if doubt is None else f"{doubt}\n{title}"),
            caption=Text("\n".join(caption)),
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            min_width=80,
        )
        shown.add_column("layer", overflow="fold")
        for name in ("share", *(f"{fraction:g} of it" for fraction in self.fractions)):
            shown.add_column(name, justify="right")
        for layer in self._ordered():
            cells = [_cell(*pair) for pair in zip(layer.errors, layer.formats, strict=True)]
            shown.add_row(*map(Text, (words.name(layer.name), f"{layer.share:.0%}", *cells)))
        return shown

    def _ordered(self) -> list[LayerCost]:
        """The layers, the most sensitive at the middle fraction first.

        One that cannot be made so small counts by the fraction before it, which costs it less.
        """
        middle = len(self.fractions) // 2

        def least(layer: LayerCost) -> float:
            known = [error for error in layer.errors[: middle + 1] if error is not None]
            return max(known, default=0.0)

        return sorted(self.layers, key=least, reverse=True)

    def plot(self, path: str | Path) -> None:
        """Draw the errors of each layer, side by side, to a PNG, PDF or SVG file.

        Raises `ValueError` for another kind of file, and `ImportError` for a PNG or PDF without
        matplotlib.
        """
        if Path(path).suffix.lower() not in SUFFIXES:
            raise ValueError(f"path={path} must end in {', '.join(SUFFIXES)}")
        if Path(path).suffix.lower() == ".svg":
            Path(path).write_text(svg.document([self._chart()]), encoding="utf-8")
            return
        from matplotlib.figure import Figure

        layers = list(reversed(self._ordered()))
        figure = Figure(figsize=(8, max(2.4, 0.9 + 0.36 * len(layers))), layout="constrained")
        axes = figure.subplots()
        height = 0.8 / len(self.fractions)
        for place, fraction in enumerate(self.fractions):
            axes.barh(
                [row + 0.4 - height * (place + 0.5) for row in range(len(layers))],
                [layer.errors[place] or 0.0 for layer in layers],
                height,
                color=COLORS[place % len(COLORS)],
                label=f"{fraction:g} of it",
            )
        axes.set_yticks(range(len(layers)), [words.name(one.name) for one in layers], fontsize=8)
        axes.set_xlabel("relative change of the network's output, each layer alone", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        figure.savefig(path, dpi=150)

    def _chart(self) -> svg.Chart:
        """The errors of the smallest behind, which are the largest."""
        fractions = [f"{fraction:g} of it" for fraction in self.fractions]
        bars = [
            svg.Bar(
                words.name(layer.name),
                " / ".join("–" if e is None else words.error(e) for e in layer.errors),
                tuple(error or 0.0 for error in reversed(layer.errors)),
            )
            for layer in self._ordered()
        ]
        legend = tuple(zip(reversed(fractions), reversed(COLORS), strict=True))
        return svg.bar_chart("Change of the network's output, each layer alone", legend, bars)

    def __str__(self) -> str:
        from . import terminal

        return terminal.text(self.table())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.layers)} layers>"


def _cell(error: float | None, format_: str | None) -> str:
    return "–" if error is None else f"{words.error(error)} ({format_})"
