"""A network's low-rank copy, to be trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, TypeVar

import torch
from torch import nn

from ..arguments import check_generator, check_model
from ..compression.running import check_weights, copied
from ..compression.survey import Layer, chosen, listed, select
from ..layer import FactorizedConv, check_init, evened
from ..model import substitute
from ..plugin import Factorization, Implementation, factorizations, implementations
from .structure import fixed_rank

M = TypeVar("M", bound=nn.Module)


def factorize(
    model: M,
    *,
    rank: Any,
    factorization: str | Factorization | type[Factorization] = "tucker",
    implementation: str | Implementation | type[Implementation] = "factorized",
    include: Sequence[Any] = (),
    exclude: Sequence[Any] = (),
    init: str = "spectral",
    generator: torch.Generator | None = None,
) -> M:
    """A copy of `model` with low-rank convolutions and linear layers, to be trained.

    With `init="spectral"` they start from the balanced decomposition of the weights that the model
    has: of a fresh model that is the spectral initialisation (Khodak et al. 2021, arXiv
    2105.01029), of a trained one a start from what it knows. With `"variance"` they are drawn anew.
    `rank`, `factorization`, `implementation` and `generator` are those of `FactorizedConv`;
    `include` and `exclude` say which layers: names with `*` and `?`, classes, or functions of a
    name and a module; all by default. The field leaves the first convolution and the classifier
    dense. A budget gives each layer the ranks that a new `FactorizedConv` has, so that a checkpoint
    loads into the copy of a model with other numbers.

    Depthwise layers stay dense, complex ones, those whose weight is shared with another module or
    computed from others, and those of which the factors would be no fewer parameters. A layer in
    several places stays one layer.

    Raises `ValueError` or `TypeError`, before anything is made, for a bad argument, a pattern that
    matches no layer, weights that are not finite, and where no layer is left to factorize.

    >>> model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3))
    >>> factorize(model, rank=0.25, exclude=["0"])[2]
    FactorizedConv(16, 32, (3, 3), rank=(12, 6), factorization='tucker')
    """
    check_source(model)
    check_init(init)
    check_generator(generator)
    factorizations.choose(factorization)
    implementations.choose(implementation)
    layers = wanted(model, include, exclude)
    request = {
        "rank": rank,
        "factorization": factorization,
        "implementation": implementation,
        "generator": generator,
    }
    made = {layer.name: low_rank(model, layer, _as_new(layer, request), init) for layer in layers}
    fewer = [layer for layer in layers if _saves(made[layer.name])]
    if not fewer:
        raise ValueError(
            f"rank={rank!r} saves no parameters in any of {', '.join(made)}: ask for less"
        )
    found: Any = copied(model)
    for layer in fewer:
        substitute(found, dict.fromkeys(layer.names, made[layer.name]))
    return found  # type: ignore[no-any-return]


def check_source(model: nn.Module) -> None:
    """Refuse, with `TypeError` or `ValueError`, what is no model with weights of its own."""
    check_model("model", model)
    if isinstance(model, torch.jit.ScriptModule) or hasattr(model, "_orig_mod"):
        raise TypeError("model is compiled: give the one that it was made from")
    check_weights(model)


def wanted(model: nn.Module, include: Sequence[Any], exclude: Sequence[Any]) -> list[Layer]:
    """The layers that are to be factorized; `ValueError` where there is none."""
    for name, patterns in (("include", include), ("exclude", exclude)):
        several = isinstance(patterns, Sequence) and not isinstance(patterns, str | bytes)
        if not several or not all(isinstance(one, str) or callable(one) for one in patterns):
            raise TypeError(f"{name}={patterns!r} must be a list of names, classes or functions")
    layers = list(listed(model).values())
    if not layers:
        raise ValueError("model has no convolution and no linear layer to factorize")
    select(model, layers, include, exclude)
    return chosen(model, layers)


def low_rank(model: nn.Module, layer: Layer, request: dict[str, Any], init: str) -> FactorizedConv:
    """The factorized form of one layer; a refusal names it."""
    conv = model.get_submodule(layer.name)
    with named(layer):
        made = FactorizedConv.from_conv(conv, **request, decompose_weights=init == "spectral")
    if init == "spectral" and not made.weight.factors[0].is_meta:
        with torch.no_grad():
            even = evened(made.weight.network, tuple(made.weight.factors))
            for index in made.weight.network.free:
                made.weight.factors[index].copy_(even[index])
    return made


@contextmanager
def named(layer: Layer) -> Iterator[None]:
    """Say of which layer a refusal is."""
    try:
        yield
    except (ValueError, TypeError) as fault:
        raise type(fault)(f"layer {layer.name!r}: {fault}") from fault


def _as_new(layer: Layer, request: dict[str, Any]) -> dict[str, Any]:
    """A request with what a hook changed of it, and the ranks that a new layer would have."""
    found = {**request, **layer.request}
    plugin = factorizations.choose(found["factorization"]).plugin
    with named(layer):
        rank = fixed_rank(plugin, layer.config.shape, found["rank"], layer.config.groups)
    return {**found, "rank": rank}


def _saves(layer: FactorizedConv) -> bool:
    return layer.weight.numel() < prod(layer.config.shape)
