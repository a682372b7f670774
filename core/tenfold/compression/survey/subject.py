"""What is compressed, and the inputs it is fitted to and judged on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from ...arguments import check_batches
from ..request import CompressionConfig
from ..running import (
    Batch,
    Part,
    check_finite,
    check_runs,
    check_weights,
    copied,
    parted,
    size,
)
from .apart import Apart
from .behaviour import observe
from .calibration import divide, filled, pieces
from .layer import Layer
from .layers import not_rounded, survey
from .layout import laid_out
from .selection import chosen, select
from .stages import stages
from .trust import doubts

STEPS = 24  # pieces of what is fitted on, or fewer where its batches cannot be parted


@dataclass
class Subject:
    """A copy of the user's network, and what is run through it.

    `every` are its layers in the order of their calls, those that stay dense too; `fitted` and
    `held` are the two parts of the calibration, `pieces` the first in about `STEPS` pieces, and
    `probes` some of its batches; `apart` takes batches apart.
    """

    model: nn.Module
    example: Batch
    batches: list[Batch]
    every: list[Layer]
    fitted: list[Batch]
    pieces: list[Batch]
    held: list[Batch]
    probes: list[Batch]
    apart: Apart
    outside: int  # multiply-accumulates of one run on the example that are in no layer
    uncounted: tuple[str, ...]  # operators whose multiply-accumulates are not known
    calibrated: bool  # whether calibration was given
    alike: list[list[Layer]]  # those that may be tied, if it pays

    @property
    def layers(self) -> list[Layer]:
        """Those that may be replaced; `ValueError`, saying why, where there is none."""
        return chosen(self.model, self.every)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why what is measured here is to be doubted, if it is."""
        return doubts(self.calibrated, self.example, self.fitted, self.held, self.layers)

    @property
    def items(self) -> int:
        """Those of all of the calibration."""
        return sum(map(size, self.batches))

    def module(self, layer: Layer) -> nn.Module:
        """The original of a layer."""
        return self.model.get_submodule(layer.name)


def surveyed(
    model: nn.Module,
    config: CompressionConfig,
    given: tuple[Batch, Iterable[Batch] | None, Part],
    scored: bool,
) -> Subject:
    """Copy and survey a network; `given` are an example, the calibration and which part of both.

    Raises `ValueError` or `TypeError`, naming the argument, for inputs that are not what the
    network takes, outputs that cannot be compared (where no score is), and where there is no layer
    to compress.
    """
    example, calibration, inputs = given
    example, _ = parted(model, example, "example_inputs", inputs)
    several = () if calibration is None else check_batches("calibration", calibration)
    names = {f"calibration[{index}]": batch for index, batch in enumerate(several)}
    found = {name: parted(model, batch, name, inputs)[0] for name, batch in names.items()}
    if calibration is not None and not found:
        raise ValueError("calibration has no batch: give some inputs, or leave it out")
    check_weights(model)
    model = copied(model)
    check_runs(model, {"example_inputs": example, **found})
    every = survey(model, example)
    for layer in every:
        if layer.factorized:
            layer.reason = not_rounded(model.get_submodule(layer.name))
    outside, uncounted = observe(model, example, every, scored)
    select(model, every, config.include, config.exclude)
    chosen(model, every)
    alike = stages(model, every, config.joint)
    batches = filled(list(found.values()) or [example])
    if not batches:
        raise ValueError("calibration has only batches of no items: give some inputs")
    for name, batch in {"example_inputs": example, **found}.items():
        check_finite(model, batch, name)
    apart = Apart(model, batches)
    batches = laid_out(model, batches, every, apart.few)
    fitted, held = divide(batches, config.holdout, apart)
    parts = pieces(fitted, -(-sum(map(size, fitted)) // STEPS), apart)
    probes = fitted[:: max(1, len(fitted) // config.probes)][: config.probes]
    known = calibration is not None
    return Subject(
        model,
        example,
        batches,
        every,
        fitted,
        parts,
        held,
        probes,
        apart,
        outside,
        uncounted,
        known,
        alike,
    )
