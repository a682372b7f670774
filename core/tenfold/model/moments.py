"""What the convolutions of a model see, gathered while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from ..arguments import check_batches, check_model, check_names
from ..layer import Moment


def measure_moments(
    model: nn.Module, names: Sequence[str], batches: Iterable[Any]
) -> dict[str, Moment]:
    """Run `model` on each of `batches` and gather the moment of each named convolution.

    The model is run in eval mode without gradients, and left as it was. A batch is what the model
    takes: a tensor, or a tuple or list of arguments. To decompose in the norm of what a layer sees
    is Zhang et al. 2016, arXiv 1505.06798.

    Raises `ValueError` for one of `names` that the model has not, and as `Moment` does.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    >>> measure_moments(model, ["2"], [torch.randn(4, 3, 10, 10)])["2"].matrix.shape
    torch.Size([1, 72, 72])
    """
    known = dict(check_model("model", model).named_modules())
    check_batches("batches", batches)
    for name in check_names("names", names):
        if name not in known:
            raise ValueError(f"names has {name!r}, which the model has not: see named_modules()")
    layers = {name: known[name] for name in names}
    moments = {name: Moment(layer) for name, layer in layers.items()}
    handles = [
        layer.register_forward_pre_hook(lambda _, given, name=name: moments[name].update(given[0]))
        for name, layer in layers.items()
    ]
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            for batch in batches:
                model(*batch) if isinstance(batch, tuple | list) else model(batch)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return moments
