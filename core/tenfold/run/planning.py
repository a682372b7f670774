"""From an implementation's answer to what runs."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from ..network import Geometry, KernelNetwork, KernelSum, Partition, is_partition
from ..plugin import (
    Choice,
    Convolution,
    Factorization,
    Fixed,
    Implementation,
    MemoryFormat,
    blamed,
    label,
)
from ..plugin import ask as ask_plugin
from .added import add
from .apart import with_apart
from .chain import lower
from .choices import parted
from .convolve import LAID_OUT


def ask(
    format_: Choice[Factorization],
    network: KernelNetwork,
    runner: Choice[Implementation],
    geometry: Geometry,
) -> Partition | Convolution:
    """An implementation's answer for a network, before anything is made of it.

    Raises `ValueError`, naming the pair, where the implementation refuses, and `TypeError` where it
    answers with neither a partition nor a callable.
    """
    wanted = runner.plugin.memory_format
    if wanted not in (None, *get_args(MemoryFormat)):
        raise ValueError(f"memory_format={wanted!r} must be {get_args(MemoryFormat)} or None")
    if wanted is not None and network.order not in LAID_OUT:
        raise ValueError(f"memory_format={wanted!r} is for orders 2 and 3, not {network.order}")
    try:
        answer = ask_plugin(runner.plugin.plan, network, geometry)
        with blamed(runner.plugin, "plan"):
            if isinstance(answer, type) or not (callable(answer) or is_partition(answer)):
                raise TypeError(
                    f"{label(runner.plugin, 'plan')} gave {answer!r}, neither a partition, "
                    "as ((1,), (0, 2)), nor a callable"
                )
            return answer
    except ValueError as fault:
        raise ValueError(
            f"implementation={runner.spelled} cannot run factorization={format_.spelled}: {fault}"
        ) from None


def make_plan(
    format_: Choice[Factorization],
    network: KernelNetwork,
    runner: Choice[Implementation],
    geometry: Geometry,
) -> Convolution:
    """Ask an implementation for its plan, and lower it where it is a partition.

    Raises `ValueError` as `ask` does, and for a partition that cannot run.
    """
    if isinstance(network, KernelSum):
        ways = [runner] * len(network.terms)
        if isinstance(runner.plugin, Fixed):
            fixed = runner.plugin  # a partition of the factors of all terms
            ways = [
                replace(runner, plugin=replace(fixed, partition=one))
                for one in parted(network, fixed.partition)
            ]
        pairs = zip(network.terms, ways, strict=True)
        return add(network, [make_plan(format_, *pair, geometry) for pair in pairs], geometry)
    plan = ask(format_, network, runner, geometry)
    if callable(plan):
        _ = network.whole, network.shape  # found now: under torch.compile they could not be
        return plan
    try:
        chain = lower(network, plan, geometry)
    except ValueError as fault:
        raise ValueError(f"{label(runner.plugin, 'plan')} gave {plan}: {fault}") from None
    chain = replace(chain, memory_format=runner.plugin.memory_format, packed=runner.plugin.packed)
    return with_apart(chain, network, geometry, thin=True) if runner.plugin.apart else chain
