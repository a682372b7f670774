"""What the demo measures of a network, and what it is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from ..compression.survey import Layer, survey
from ..tuning import device_name, in_turn
from .data import accuracy, load_cnn, load_images

JUDGED, BATCH = 1000, 32  # images that accuracies are of, and that MACs and times are of
SECONDS = 0.15  # of the runs of one network, at least
SEED = 0


@dataclass(frozen=True)
class LeftOut:
    """A pair that is installed and cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Measured:
    """One network: what it is, how good, how large and how fast.

    `accuracy` is a fraction. `macs` and `milliseconds` are those of the whole network on a batch of
    32 images; `dense_milliseconds` were measured in turn with `milliseconds`. `chain` is the kernel
    sizes of the convolutions that a replaced one became, where that is a chain.
    """

    name: str
    accuracy: float
    parameters: int
    macs: float | None  # None where the implementation runs code of its own
    milliseconds: float
    dense_milliseconds: float
    chain: tuple[tuple[int, ...], ...] = ()

    @property
    def speed(self) -> float:
        """How many times as fast as the original it is."""
        return self.dense_milliseconds / self.milliseconds


class Setting:
    """The trained network, the images that it and others are judged on, and where.

    The images are a seeded choice of the 2,000 that the package ships.
    """

    def __init__(self) -> None:
        self.model = load_cnn()
        images, labels = load_images()
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))
        kept = order[:JUDGED]
        self.images = images[kept].contiguous(memory_format=torch.channels_last)
        self.labels = labels[kept]
        self.batch = self.images[:BATCH]
        self.layers: list[Layer] = survey(self.model, self.batch)
        threads = torch.get_num_threads()
        name = device_name(self.batch.device)
        self.place = f"{name}, {threads} thread{'s' if threads > 1 else ''}"

    @property
    def macs(self) -> int:
        """Of the original, on the batch."""
        return sum(layer.macs for layer in self.layers)

    @torch.no_grad()
    def measure(
        self,
        networks: Mapping[str, tuple[nn.Module, float | None]],
        chain: tuple[tuple[int, ...], ...] = (),
    ) -> list[Measured]:
        """Measure networks, by name, with their MACs: all in turn, after the original."""
        models = [self.model, *(model for model, _ in networks.values())]
        runs = [partial(one, self.batch) for one in models]
        theirs, *times = in_turn(runs, self.batch.device, SECONDS)
        given = {"original": (self.model, self.macs), **networks}
        return [
            Measured(
                name=name,
                accuracy=accuracy(model, self.images, self.labels),
                parameters=sum(parameter.numel() for parameter in model.parameters()),
                macs=macs,
                milliseconds=mine.milliseconds,
                dense_milliseconds=theirs.milliseconds,
                chain=chain,
            )
            for (name, (model, macs)), mine in zip(given.items(), [theirs, *times], strict=True)
        ]
