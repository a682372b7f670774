"""What layers of a model are run on: the inputs they see when the model runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..run import LAID_OUT, channels_last, is_channels_last


@dataclass(frozen=True)
class Seen:
    """The kind of input that a layer sees first."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    channels_last: bool = False

    @classmethod
    def of(cls, x: Tensor) -> Seen:
        return cls(tuple(x.shape), x.dtype, x.device, is_channels_last(x))

    def draw(self) -> Tensor:
        """A normal input of this kind."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.shape, generator=generator).to(self.device, self.dtype)
        return channels_last(x) if self.channels_last and len(self.shape) - 2 in LAID_OUT else x


def seen_inputs(
    model: nn.Module, layers: Mapping[str, nn.Module], example_inputs: Any
) -> dict[str, Seen]:
    """Run `model` once, in eval mode without gradients, and tell what each layer sees first.

    `example_inputs` is a tensor, or a tuple of the model's arguments; anything else is a
    `TypeError`. Training modes are put back.
    """
    found: dict[str, Seen] = {}

    def hook(name: str) -> Any:
        def see(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not inputs or not isinstance(inputs[0], Tensor):
                raise TypeError(f"example_inputs give the layer {name!r} no tensor: give one")
            found.setdefault(name, Seen.of(inputs[0]))

        return see

    handles = [one.register_forward_pre_hook(hook(name)) for name, one in layers.items()]
    if not isinstance(example_inputs, Tensor | tuple | list):
        kind = type(example_inputs).__name__
        raise TypeError(f"example_inputs={kind} must be a tensor, or a tuple of arguments")
    arguments = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    try:
        with _eval_mode(model), torch.no_grad():
            model(*arguments)
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes: Mapping[nn.Module, bool] = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
