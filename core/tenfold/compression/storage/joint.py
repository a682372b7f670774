"""Layers that share one network as an entry of `tenfold.json`, and back."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import nn

from ...layer import FactorizedConv, FactorizedKernel, JointConv, Member
from ...plugin import factorizations
from .entries import GEOMETRY, TORCH_DTYPES, check_stored, described, network_of, numbers_of
from .manifest import Entry, JointEntry
from .weights import Stored

COMMON = ("transposed", "output_padding")


def joint_entries(model: nn.Module) -> list[JointEntry]:
    """What to write of each joint layer whose convolutions stand in the model.

    Raises `ValueError`, naming the layer, where one of them stands nowhere, and for a plugin that
    has no installed name.
    """
    places: dict[int, list[str]] = {}
    tied: dict[int, JointConv] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        places.setdefault(id(module), []).append(name)
        if isinstance(module, Member):
            joint: Any = module.joint
            tied[id(joint)] = joint
    return [_entry(joint, places) for joint in tied.values()]


def _entry(joint: JointConv, places: dict[int, list[str]]) -> JointEntry:
    first = places.get(id(joint))
    if first is None:
        raise ValueError("a joint layer is no part of the model: put it in, it has the parameters")
    found = []
    for place, member in enumerate(joint):
        names = first if place == 0 else places.get(id(member))
        if names is None:
            raise ValueError(f"layer {first[0]!r}: its convolution {place} stands nowhere")
        found.append(described(member, names, joint.weight, joint.runner))
    return JointEntry(n_layers=joint.n_layers, layers=tuple(found))


def build_joint(entry: JointEntry, olds: Sequence[Any], stored: Stored) -> list[nn.Module]:
    """The layers in the places of `olds`, without their numbers; the first is the joint layer.

    They have the device, the training mode and the `requires_grad` of `olds`. Raises as `build`.
    """
    _check_alike(entry)
    olds = [old[0] if isinstance(old, JointConv) else old for old in olds]
    first = entry.layers[0]
    configs = [one.config for one in entry.layers]
    name, like = first.names[0], numbers_of(olds[0])
    try:
        network = network_of(first, entry.n_layers)
        check_stored(name, network, stored)
        made: dict[str, Any] = {"dtype": TORCH_DTYPES[first.dtype], "device": like.device}
        each: dict[str, Any] = {
            field: [getattr(one, field) for one in configs]
            for field in GEOMETRY
            if field not in COMMON
        }
        common: dict[str, Any] = {field: getattr(configs[0], field) for field in COMMON}
        bias: Any = [torch.empty(one.out_channels, **made) if one.bias else None for one in configs]
        factors = [torch.empty(shape, **made) for shape in network.shapes]
        joint: Any = FactorizedConv.from_factorization(
            FactorizedKernel(network, factors, factorizations.choose(first.factorization)),
            implementation=first.implementation,
            bias=bias,
            n_layers=entry.n_layers,
            **each,
            **common,
        )
        for member, one in zip(joint, entry.layers, strict=True):
            if one.decision is not None:
                member.fix_plan(one.decision)
    except (TypeError, ValueError) as fault:
        raise ValueError(f"layer {name!r}: {fault}") from None
    joint.weight.requires_grad_(like.requires_grad)
    for member, one, old in zip(joint, entry.layers, olds, strict=True):
        member.channels_last = one.channels_last
        if member.bias is not None and old.bias is not None:
            member.bias.requires_grad_(old.bias.requires_grad)
    joint.train(olds[0].training)
    return [joint, *list(joint)[1:]]


def _check_alike(entry: JointEntry) -> None:
    """Refuse, with a `ValueError`, layers that are not of one network."""
    first = entry.layers[0]
    same = all(_kind(one) == _kind(first) for one in entry.layers)
    if prod(entry.n_layers) != len(entry.layers) or not same:
        raise ValueError(f"layer {first.names[0]!r} and those tied to it are not of one network")


def _kind(entry: Entry) -> tuple[Any, ...]:
    shape = (entry.config.shape, entry.config.groups, entry.config.transposed)
    return (*shape, entry.rank, entry.factorization, entry.implementation, entry.dtype)
