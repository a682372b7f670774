"""A factorized layer as an entry of `tenfold.json`, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...layer import FactorizedConv, FactorizedKernel, JointConv, Member, read_config
from ...network import KernelNetwork
from ...plugin import Choice, Implementation, PluginError, Registry, factorizations, implementations
from ...solve import structure
from .manifest import Entry
from .weights import DTYPES, Stored

GEOMETRY = ("stride", "padding", "dilation", "padding_mode", "transposed", "output_padding")
TORCH_DTYPES = {name: dtype for dtype, name in DTYPES.items()}
SAME = "build the model with the arguments of the one that was saved"


def entries(model: nn.Module) -> list[Entry]:
    """What to write of each factorized layer, with every place that holds it.

    Raises `ValueError`, naming the layer, for a plugin that has no installed name.
    """
    places: dict[int, tuple[FactorizedConv, list[str]]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, FactorizedConv):
            places.setdefault(id(module), (module, []))[1].append(name)
    return [described(layer, names, layer.weight, layer.runner) for layer, names in places.values()]


def origins(saved: Sequence[Entry]) -> dict[str, str]:
    """The distribution and version of each plugin of some layers, by its kind and name."""
    found = {}
    for registry in (factorizations, implementations):
        for name in sorted({one for entry in saved for one in _names(entry, registry)}):
            found[f"{registry.kind} {name}"] = registry.origin(name)
    return {plugin: origin for plugin, origin in found.items() if origin}


def check_installed(saved: Sequence[Entry], plugins: Mapping[str, str]) -> None:
    """Raise `ValueError` for a plugin that is not installed, saying what to install."""
    for entry in saved:
        for registry in (factorizations, implementations):
            for name in _names(entry, registry):
                origin = plugins.get(f"{registry.kind} {name}")
                if origin is not None and name not in registry:
                    distribution, _, version = origin.rpartition(" ")
                    raise ValueError(
                        f"layer {entry.names[0]!r}: {registry.kind}={name!r} is not installed, and "
                        f"was that of {origin}: pip install {distribution}=={version}"
                    )


def _names(entry: Entry, registry: Registry[Any]) -> list[str]:
    """The plugins of a layer, of one kind: several formats where they are added."""
    asked: str = getattr(entry, registry.kind)
    names = [name.strip() for name in asked.split("+")]
    runs = None if entry.decision is None else entry.decision.implementation
    return names if runs is None or registry.kind == "factorization" else [*names, runs]


def described(
    layer: Any, names: list[str], kernel: FactorizedKernel, runner: Choice[Implementation]
) -> Entry:
    """The entry of a layer, or of one that shares its network with others.

    Raises `ValueError`, naming the layer, for a plugin that has no installed name.
    """
    network, rank = kernel.network, kernel.rank
    factorization = _installed(factorizations, kernel.choice, names[0])
    plugin = factorizations.choose(factorization).plugin
    if structure(plugin, network.shape, rank, network.groups, None) != network:
        raise ValueError(
            f"layer {names[0]!r}: factorization={factorization!r} with rank={rank} is not "
            f"{kernel.choice.spelled}: register one with its options under a name of its own"
        )
    implementation = _installed(implementations, runner, names[0])
    if runner.spelled not in (repr(runner.name), repr(implementations[implementation]())):
        raise ValueError(
            f"layer {names[0]!r}: implementation={runner.spelled} has options that its name "
            f"{implementation!r} does not: register one with them under a name of its own"
        )
    return Entry(
        names=tuple(names),
        factorization=factorization,
        implementation=implementation,
        rank=rank,
        config=layer.config,
        channels_last=layer.channels_last,
        dtype=DTYPES[kernel.dtype],
        decision=layer.decision,
    )


def _installed(registry: Registry[Any], choice: Choice[Any], layer: str) -> str:
    """The name under which the plugin of a layer is found again.

    Raises `ValueError` where it has none: it was given as a class or an instance.
    """
    if choice.spelled == repr(choice.name):
        return choice.name
    cls = type(choice.plugin)
    for name in registry.names():
        try:
            if registry[name] is cls:
                return name
        except PluginError:
            continue  # a broken one is not this one
    raise ValueError(
        f"layer {layer!r}: {registry.kind}={choice.spelled} has no installed name, by which "
        f"loading would find it: give it an entry point of the group {registry.group!r}, or call "
        f"tenfold.{registry.kind}s.register({cls.__name__.lower()!r}, {cls.__name__})"
    )


def network_of(entry: Entry, n_layers: tuple[int, ...] = ()) -> KernelNetwork:
    """The network of an entry, or the one that it shares with others."""
    plugin = factorizations.choose(entry.factorization).plugin
    outer, inner, *rest = entry.config.shape
    return structure(
        plugin, (outer, inner, *n_layers, *rest), entry.rank, entry.config.groups, None
    )


def find(model: nn.Module, entry: Entry) -> nn.Module:
    """The layer of a dense model that a saved one replaces.

    Raises `ValueError` where there is none, or one of other arguments.
    """
    found = []
    for name in entry.names:
        try:
            found.append(model.get_submodule(name))
        except AttributeError:
            raise ValueError(f"the model has no layer {name!r}: {SAME}") from None
    old, name = found[0], entry.names[0]
    if any(other is not old for other in found):
        raise ValueError(f"{' and '.join(entry.names)} were one layer: {SAME}")
    try:
        own: Any = old[0] if isinstance(old, JointConv) else old
        config = own.config if isinstance(own, FactorizedConv | Member) else read_config(own)
    except (TypeError, ValueError) as fault:
        raise ValueError(f"layer {name!r} is not the one that was saved: {fault}") from None
    mine, saved = config.model_dump(), entry.config.model_dump()
    for field in mine:
        if field != "bias" and mine[field] != saved[field]:
            raise ValueError(
                f"layer {name!r} has {field}={mine[field]!r}, and had {saved[field]!r}: {SAME}"
            )
    return old


def build(entry: Entry, old: Any, stored: Stored) -> FactorizedConv:
    """The layer in the place of `old`, without its numbers, for which there is room in `stored`.

    It has the device, the training mode and the `requires_grad` of `old`. Raises `ValueError`,
    before anything is allocated, where the stored factors are others, and for an unknown plugin.
    """
    name, config = entry.names[0], entry.config
    try:
        network = network_of(entry)
        check_stored(name, network, stored)
        weight = numbers_of(old)
        like: Any = {"dtype": TORCH_DTYPES[entry.dtype], "device": weight.device}
        factors = [torch.empty(shape, **like) for shape in network.shapes]
        layer = FactorizedConv.from_factorization(
            FactorizedKernel(network, factors, factorizations.choose(entry.factorization)),
            implementation=entry.implementation,
            bias=torch.empty(config.out_channels, **like) if config.bias else None,
            **{field: getattr(config, field) for field in GEOMETRY},
        )
        if entry.decision is not None:
            layer.fix_plan(entry.decision)
    except (TypeError, ValueError) as fault:
        raise ValueError(f"layer {name!r}: {fault}") from None
    layer.channels_last = entry.channels_last
    layer.requires_grad_(weight.requires_grad)
    if layer.bias is not None and old.bias is not None:
        layer.bias.requires_grad_(old.bias.requires_grad)
    return layer.train(old.training)


def numbers_of(old: Any) -> Tensor:
    """A tensor of a layer, whose device and `requires_grad` are the layer's."""
    weight = old.weight
    found: Tensor = weight.factors[0] if isinstance(weight, FactorizedKernel) else weight
    return found


def check_stored(name: str, network: KernelNetwork, stored: Stored) -> None:
    """Refuse, with a `ValueError`, factors of other shapes than the network's."""
    for index, shape in enumerate(network.shapes):
        key = f"{name}.weight.factors.{index}".lstrip(".")
        there = stored.get(key, ("nothing", ""))[0]
        if there != shape:
            raise ValueError(f"factor {index} is {shape} by its rank, and {there} is stored")
