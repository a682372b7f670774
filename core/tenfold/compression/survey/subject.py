"""What is compressed, and the inputs it is fitted to and judged on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from ...arguments import check_batches
from ..request import CompressionConfig
from ..running import Batch, check_call, check_finite, copied, size
from .calibration import divide
from .layers import Layer, chosen, select, survey


@dataclass
class Subject:
    """A copy of the user's network, and what is run through it.

    `every` are its layers in the order of their calls, those that stay dense too; `fitted` and
    `held` are the two parts of the calibration, and `probes` some of the first.
    """

    model: nn.Module
    example: Batch
    batches: list[Batch]
    every: list[Layer]
    fitted: list[Batch]
    held: list[Batch]
    probes: list[Batch]

    @property
    def layers(self) -> list[Layer]:
        """Those that may be replaced; `ValueError`, saying why, where there is none."""
        return chosen(self.every)

    @property
    def items(self) -> int:
        """Those of all of the calibration."""
        return sum(map(size, self.batches))

    def module(self, layer: Layer) -> nn.Module:
        """The original of a layer."""
        return self.model.get_submodule(layer.name)


def surveyed(
    model: nn.Module, config: CompressionConfig, example: Batch, calibration: Iterable[Batch] | None
) -> Subject:
    """Copy and survey a network.

    Raises `ValueError` or `TypeError`, naming the argument, for inputs that are not what the
    network takes, and where there is no layer to compress.
    """
    check_call(model, example, "example_inputs")
    given = [example] if calibration is None else check_batches("calibration", calibration)
    batches = list(given)
    if not batches:
        raise ValueError("calibration has no batch: give some inputs, or leave it out")
    for index, batch in enumerate(batches):
        check_call(model, batch, f"calibration[{index}]")
    model = copied(model)
    every = survey(model, example)
    select(model, every, config.include, config.exclude)
    chosen(every)
    check_finite(model, example, "example_inputs")
    for index, batch in enumerate(batches):
        check_finite(model, batch, f"calibration[{index}]")
    fitted, held = divide(batches, config.holdout, model)
    step = max(1, len(fitted) // config.probes)
    return Subject(model, example, batches, every, fitted, held, fitted[::step][: config.probes])
