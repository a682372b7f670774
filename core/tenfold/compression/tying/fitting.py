"""Kernels alike decomposed into one network, in a norm that is all of theirs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...algebra import by_group
from ...layer import read_kernel
from ...network import KernelNetwork, Multiple, parts_of, slice_layers, terms_of
from ...plugin import Choice, Factorization, factorizations, implementations
from ...run import make_plan
from ..candidates import Meter, alignment, turned_for
from ..moments import Importance, Norm, Seen, groups_within, measure
from ..request import CompressionConfig
from ..running import Batch
from ..survey import Layer
from .pooled import pooled
from .tie import Tie

LAYER = "k0"  # the mode that numbers the layers: the first of space


@torch.no_grad()
def fitted(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Sequence[Batch],
    importance: Importance,
    spendable: int,
    config: CompressionConfig,
) -> Tie | None:
    """The layers tied within so many parameters of their kernels, in the format that loses least.

    None where no format and implementation ties them within these.
    """
    convs = [model.get_submodule(layer.name) for layer in layers]
    kernels = torch.stack([read_kernel(conv) for conv in convs], 2)
    moments = _moments(model, layers, batches, importance, config)
    norm, gains, exact = pooled(layers, kernels, moments, importance, config.memory)
    gain = torch.tensor(gains).to(kernels).reshape(-1, *[1] * (kernels.dim() - 3))
    groups = layers[0].config.groups
    found: list[tuple[float, Choice[Factorization], str, KernelNetwork, list[Tensor]]] = []
    for name in config.factorizations:
        choice = factorizations.choose(name)
        ranks = Multiple(alignment(layers[0], config.multiple), of=spendable / kernels.numel())
        network, factors = _decomposed(choice, kernels, gain, norm, groups, ranks, config.seed)
        way = _way(choice, network, layers, config.implementations)
        if way is None or network.numel > spendable:
            continue
        for one in _tried(choice, network, factors, kernels, exact, groups):
            gap = kernels - network.to_tensor(one)
            whole, gap = (norm, gap * gain) if exact is None else (exact, gap)
            found.append((whole.squared(by_group(gap, groups))[0], choice, way, network, one))
    if not found:
        return None
    _, choice, way, network, factors = min(found, key=lambda one: one[0])
    made = network.to_tensor(factors).unbind(2)
    lost = tuple(
        Meter(kernel, Norm.of(seen, importance.worth(layer), kernel), groups, config.seed).lost(one)
        for layer, seen, kernel, one in zip(layers, moments, kernels.unbind(2), made, strict=True)
    )
    return Tie(tuple(layers), tuple(convs), choice, way, network, factors, lost)


def _moments(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Sequence[Batch],
    importance: Importance,
    config: CompressionConfig,
) -> list[Seen]:
    seen: dict[str, Seen] = {}
    for part in groups_within(layers, config.memory, len(batches)):
        seen |= measure(model, part, batches, len(batches), config.memory, config.seed, importance)
    return [seen[layer.name] for layer in layers]


def _decomposed(
    choice: Choice[Factorization],
    kernels: Tensor,
    gain: Tensor,
    norm: Norm,
    groups: int,
    ranks: Multiple,
    seed: int,
) -> tuple[KernelNetwork, list[Tensor]]:
    """The kernels in one format; each counts by its gain, where one factor tells them apart."""
    smallest = choice.plugin.network(tuple(kernels.shape), 1, groups)
    owners = [[i for i in term.free if LAYER in term.factors[i]] for term in terms_of(smallest)]
    able = all(len(one) == 1 for one in owners)
    turned = turned_for(choice.plugin, kernels * gain if able else kernels, norm, groups)
    network = turned.network(ranks)
    factors = turned.factors(network, torch.Generator().manual_seed(seed))
    if not able:
        return network, factors
    found: list[Tensor] = []
    for term, part, (owner,) in zip(
        terms_of(network), parts_of(network, factors), owners, strict=True
    ):
        apart = list(part)
        after = len(term.factors[owner]) - term.factors[owner].index(LAYER) - 1
        apart[owner] = apart[owner] / gain.reshape(-1, *[1] * after)
        found += apart
    return network, found


def _tried(
    choice: Choice[Factorization],
    network: KernelNetwork,
    factors: list[Tensor],
    kernels: Tensor,
    exact: Norm | None,
    groups: int,
) -> list[list[Tensor]]:
    """Factors, and what least squares over all patches make of them, where these are known."""
    if exact is None:
        return [factors]
    better = turned_for(choice.plugin, kernels, exact, groups).refined(network, factors)
    return [factors] if better is None else [factors, better]


def _way(
    choice: Choice[Factorization],
    network: KernelNetwork,
    layers: Sequence[Layer],
    ways: Sequence[str],
) -> str | None:
    """The first implementation that runs every layer of the network, if one does."""
    for way in ways:
        runner = implementations.choose(way)
        try:
            for layer in layers:
                make_plan(choice, slice_layers(network, 1).network, runner, layer.config.geometry)
        except ValueError:
            continue
        return runner.name
    return None
