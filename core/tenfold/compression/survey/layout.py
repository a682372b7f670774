"""Batches laid out in memory as most of a network's work is done fastest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..running import Batch, Difference, outputs
from .layer import Layer

SAME = 1e-3  # what the order of sums may change


def laid_out(
    model: nn.Module, batches: Sequence[Batch], layers: Sequence[Layer], some: Batch
) -> list[Batch]:
    """The batches with their channels last, where convolutions of images on a processor have most
    of the work, and the model gives the same for `some` items; else as they are.

    What it makes of them has its channels last too, until it says otherwise. Volumes are convolved
    no faster so.
    """
    work = sum(layer.macs for layer in layers if layer.config.order == 2)
    there = next((p.device.type for p in model.parameters()), "")
    if there != "cpu" or 2 * work < sum(layer.macs for layer in layers):
        return list(batches)
    (wanted,) = outputs(model, [some])
    try:
        (given,) = outputs(model, [images_last(some)])
    except Exception:  # it views, or asserts, what this format does not have: of any class
        return list(batches)
    difference = Difference()
    difference.add(wanted, given)
    return [*map(images_last, batches)] if difference.relative < SAME else list(batches)


def images_last(value: Batch) -> Batch:
    """The same with the channels of its images last, in tuples, lists and dicts."""
    return _last(value, 4, torch.channels_last)


def maps_last(value: Batch) -> Batch:
    """The same with the channels of its images and volumes last."""
    return _last(_last(value, 4, torch.channels_last), 5, torch.channels_last_3d)


def format_of(orders: Iterable[int]) -> torch.memory_format | None:
    """That which has the channels last of layers of these orders; None where there is not one."""
    known = {2: torch.channels_last, 3: torch.channels_last_3d}
    found = [known[order] for order in {*orders} & known.keys()]
    return found[0] if len(found) == 1 else None


def _last(value: Batch, dim: int, format_: torch.memory_format) -> Batch:
    if isinstance(value, Tensor):
        return value.clone(memory_format=format_) if value.dim() == dim else value
    if type(value) is dict:
        return {name: _last(one, dim, format_) for name, one in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_last(one, dim, format_) for one in value)
    return value
