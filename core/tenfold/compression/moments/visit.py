"""What goes by in a run of the original, and who looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..survey import Layer


@dataclass(frozen=True)
class Visit:
    """One call of a layer, and at which places of its output to look.

    `x` and `y` are what it was given and gave; `where`, `(few,)`, are places of the flattened
    output, and `weights` what each counts.
    """

    layer: Layer
    batch: int
    x: Tensor
    y: Tensor
    where: Tensor
    weights: Tensor


class Look:
    """Takes in what it wants of a run on some batches."""

    def hooks(self, model: nn.Module) -> Sequence[Any]:
        """What it has to see of the model itself: the handles of hooks, taken away afterwards."""
        return ()

    def begin(self) -> None:
        """Another batch is run."""

    def gave(self, output: Any) -> None:
        """That is what the model gave for it."""

    def take(self, visit: Visit) -> None:
        """Take in one call of a layer."""

    def drop(self, name: str) -> None:
        """What was seen of a layer is not all: forget it."""

    def forget(self) -> None:
        """The run did not come to its end: forget everything."""
