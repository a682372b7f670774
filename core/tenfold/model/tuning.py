"""Make the choices of a whole model ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..arguments import check_model
from ..layer import FactorizedConv, JointConv, Member
from ..tuning import Decision
from .workload import Seen, seen_inputs

Layer = FactorizedConv | Member


def tune(
    model: nn.Module, example_inputs: Any, *, again: bool = False, runtime: str = "eager"
) -> dict[str, Decision]:
    """Choose now how each `auto` layer of `model` runs, for the inputs that it sees.

    `example_inputs` is a tensor, or a tuple of the model's arguments; the batch, the sizes, the
    memory format, the dtype, the device and `torch.get_num_threads()` count. What was measured
    before is looked up; `again` measures anew. `runtime` is where times count, by its name, as
    `"onnxruntime"`. Layers with a fixed plan keep it. Returns each layer's decision by its name,
    `name[index]` for those of a joint layer. Afterwards the model may be compiled, exported, saved
    or trained: it runs as decided.

    Raises `ValueError` where the model has no layer to decide, `TypeError` for what is no model or
    no input.

    >>> import torch
    >>> model = nn.Sequential(FactorizedConv(8, 8, 3, order=2, rank=4, implementation="auto"))
    >>> sorted(tune(model, torch.randn(1, 8, 10, 10)))
    ['0']
    """
    layers = open_layers(check_model("model", model))
    seen = seen_by(model, layers, example_inputs)
    return {
        name: layers[name].tune(one.draw(), again, runtime=runtime) for name, one in seen.items()
    }


def open_layers(model: nn.Module) -> dict[str, Layer]:
    """The layers of a model whose plan is to be measured, by name.

    One of a joint layer that stands nowhere else is called `name[index]`. Raises `ValueError` where
    there is none.
    """
    layers = {name: one for name, one in _layers(model).items() if one.measures}
    if not layers:
        raise ValueError(
            "the model has no layer whose plan is to be measured: make or convert some with "
            "implementation='auto'"
        )
    return layers


def _layers(model: nn.Module) -> dict[str, Layer]:
    standing: dict[str, Layer] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, FactorizedConv | Member)
    }
    placed = {id(one) for one in standing.values()}
    for name, module in model.named_modules():
        if isinstance(module, JointConv):
            for one in module:
                index = ", ".join(map(str, one.index))
                if id(one) not in placed:
                    standing[f"{name}[{index}]"] = one
    return standing


def seen_by(model: nn.Module, layers: Mapping[str, Layer], example_inputs: Any) -> dict[str, Seen]:
    """What each of the layers sees first when the model runs; nothing is measured meanwhile."""
    for layer in layers.values():
        layer.measures = False
    try:
        return seen_inputs(model, layers, example_inputs)
    finally:
        for layer in layers.values():
            layer.measures = True
