"""What a layer may become: formats × ranks × implementations, each decomposed in its norm."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from .. import source
from ..budget import clip
from ..conv import FactorizedConv
from ..decomposition import check_finite, decompose, relative_error, with_group
from ..factorization import Factorization
from ..kernel import FactorizedKernel
from ..network import KernelNetwork
from ..planning import make_plan
from ..rank import Multiple
from ..registry import Choice, factorizations, implementations
from ..spectrum import by_group
from ..stage import Chain
from ..weighted import weighted_least_squares
from .norm import Norm
from .survey import Layer
from .truncation import centre, kept, leading, ordered

Rank = int | tuple[int, ...]
FRACTIONS = tuple(0.9 * 0.84**step for step in range(22))  # of the dense parameters
SWEEPS = 8  # of weighted least squares, at most
WORK = 2**33  # multiply-accumulates, roughly, of the sweeps for one candidate
FEW_FRACTIONS = tuple(0.45 * 0.62**step for step in range(6))  # where each is a decomposition


class Candidate(BaseModel):
    """One thing a layer may become; dense where `factorization` is None.

    Its factors are the leading part of those of the rank `part_of`, where that is given.
    `parameters` are its own, `macs` those of all its calls, and `traffic` the elements that their
    convolutions read and write. `weighted` is its relative error in
    the norm that it was decomposed in, `output_error` that of its output. `milliseconds` are
    measured where latency counts, and `error` is the relative change of the network's output, or
    what `evaluate` loses, where it was measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factorization: str | None = None
    implementation: str | None = None
    rank: Rank | None = None
    part_of: Rank | None = None
    parameters: int
    macs: int
    traffic: int = 0
    kernel_error: float = 0.0
    output_error: float = 0.0
    weighted: float = 0.0
    milliseconds: float | None = None
    error: float | None = None

    @property
    def key(self) -> str:
        """What its factors are stored under, with those of the layer's other candidates."""
        place = self.rank if self.part_of is None else f"part of {self.part_of}"
        return f"{self.factorization}:{place}"


@dataclass(frozen=True)
class Fitted:
    """A network and its factors for a layer's kernel.

    `source` holds the factors of the ranks `part_of`, of which these are the leading part, if so.
    `turned` is what was decomposed.
    """

    choice: Choice[Factorization]
    turned: Turned
    network: KernelNetwork
    factors: list[Tensor]
    source: list[Tensor] | None = None
    part_of: Rank | None = None

    @property
    def rank(self) -> Rank:
        return rank_of(self.network)

    def refined(self) -> Fitted | None:
        """The same, its factors nearer to the kernel in the whole norm; None where they are."""
        factors = self.turned.refined(self.network, self.factors, WORK)
        return (
            None if factors is None else replace(self, factors=factors, source=None, part_of=None)
        )


def rank_of(network: KernelNetwork) -> Rank:
    """The sizes of the bonds, as a request asks for them."""
    sizes = tuple(network.sizes[bond] for bond in network.bonds)
    return sizes[0] if len(sizes) == 1 else sizes


def dense(layer: Layer) -> Candidate:
    """The layer as it is."""
    return Candidate(parameters=layer.parameters, macs=layer.macs, traffic=layer.traffic)


def alignment(layer: Layer, asked: int | None) -> int:
    """What ranks are multiples of: the widest that leaves a narrow layer a choice."""
    if asked is not None:
        return asked
    narrow = min(layer.config.out_channels, layer.config.shape[1])
    return next((base for base in (16, 8, 4, 2) if narrow >= 4 * base), 1)


def fits(
    layer: Layer,
    kernel: Tensor,  # (out, in/groups, *k)
    norm: Norm,
    formats: Sequence[str],
    base: int,
    seed: int,
) -> Iterator[Fitted]:
    """Decompose a layer's kernel in each format at each rank that is smaller than dense.

    Raises `ValueError` for a kernel that is not finite.
    """
    check_finite(kernel)
    rank = layer.request.get("rank")
    asked = layer.request.get("factorization")
    choices = [factorizations.choose(asked)] if asked else distinct(layer, formats)
    for choice in choices:
        generator = torch.Generator().manual_seed(seed)
        turned = Turned(choice.plugin, kernel, norm, layer.config.groups)
        if rank is not None:
            networks = [turned.network(rank)]
        elif len(turned.network(1).bonds) <= 2 and centre(turned.network(1)) is not None:
            yield from _nested(choice, turned, base, generator)
            continue
        else:
            networks = [turned.network(Multiple(base, of=of)) for of in FEW_FRACTIONS]
        seen = set()
        for network in networks:
            if network.shapes not in seen and (rank or network.numel < kernel.numel()):
                seen.add(network.shapes)
                yield Fitted(choice, turned, network, turned.factors(network, generator))


def _nested(
    choice: Choice[Factorization], turned: Turned, base: int, generator: torch.Generator
) -> Iterator[Fitted]:
    """One decomposition at the largest ranks, truncated to those that keep most for their cost."""
    whole, dense_size = turned.network(10**9), turned.kernel.numel()
    opens = {mode: whole.sizes[mode] for mode in whole.open_modes}
    networks = {}
    for ranks in product(*(_aligned(whole.sizes[bond], base) for bond in whole.bonds)):
        sizes = dict(zip(whole.bonds, ranks, strict=True))
        network = KernelNetwork(whole.factors, {**whole.sizes, **sizes})
        if network.numel < dense_size and clip(whole.factors, whole.bonds, opens, sizes) == sizes:
            networks[ranks] = network
    if not networks:
        return
    most = tuple(map(max, zip(*networks, strict=True)))
    largest = turned.network(most)
    clipped = [largest.sizes[bond] for bond in largest.bonds]  # some ranks need others as large
    networks = {
        r: n for r, n in networks.items() if all(a <= b for a, b in zip(r, clipped, strict=True))
    }
    middle = centre(largest)
    assert middle is not None
    factors = ordered(largest, turned.solve(largest, generator), middle)
    keeps = kept(largest, factors, middle).cpu().numpy()
    source = turned.restore(factors)
    chosen = set()
    for fraction in FRACTIONS:
        within = [r for r, network in networks.items() if network.numel <= fraction * dense_size]
        if within:
            chosen.add(max(within, key=lambda r: float(keeps[tuple(one - 1 for one in r)])))
    for ranks in sorted(chosen):
        network = turned.network(ranks)
        yield Fitted(choice, turned, network, leading(network, source), source, rank_of(largest))


def _aligned(most: int, base: int) -> list[int]:
    """The ranks up to `most` to choose from: multiples of `base`, and fractions of it below."""
    small = [base >> shift for shift in range(1, base.bit_length())]
    step = base * max(1, most // (base * 64))  # no more than 64
    return sorted({r for r in (*small, *range(base, most + 1, step), most) if r <= most})


class Turned:
    """A kernel turned for one format, so that its plain decomposition is that of the norm."""

    def __init__(self, format_: Factorization, kernel: Tensor, norm: Norm, groups: int) -> None:
        self.format, self.kernel, self.groups = format_, kernel, groups
        smallest = with_group(self.network(1, weighed=False))
        self.whitenings = norm.whitenings(smallest.factors, kernel.shape[1:])
        work = by_group(kernel, groups)
        for turning in self.whitenings:
            work = turning.turned(work, smallest.open_modes)
        self.turned = work.flatten(0, 1)
        self.norm = norm

    def network(self, rank: Any, weighed: bool = True) -> KernelNetwork:
        """The network for a rank, chosen by what counts in the norm."""
        kernel = self.turned if weighed and hasattr(self, "turned") else None
        return self.format.network(tuple(self.kernel.shape), rank, self.groups, kernel)

    def solve(self, network: KernelNetwork, generator: torch.Generator) -> list[Tensor]:
        """Factors of the turned kernel."""
        return decompose(self.format, self.turned, network, generator)

    def restore(self, factors: Sequence[Tensor]) -> list[Tensor]:
        """Factors of the kernel from those of the turned one, in the kernel's dtype."""
        grouped = [factor if self.groups > 1 else factor[None] for factor in factors]
        for turning in self.whitenings:
            grouped = turning.restored(grouped)
        found = [factor if self.groups > 1 else factor[0] for factor in grouped]
        return [factor.to(self.kernel.dtype).contiguous() for factor in found]

    def factors(self, network: KernelNetwork, generator: torch.Generator) -> list[Tensor]:
        """Factors of the kernel."""
        return self.restore(self.solve(network, generator))

    @cached_property
    def seen(self) -> Tensor | None:
        """The whole moment of what the turned kernel sees, `(groups, n, n)`.

        None where it is not known, or says no more than the turning does.
        """
        whole, count = self.norm.seen.whole, self.norm.seen.count
        if whole is None or count is None or count < whole.shape[1]:
            return None
        first, *_ = self.whitenings
        if max(map(len, first.modes)) == self.kernel.dim() - 1:
            return None
        return first.seen(whole, self.kernel.shape[1:], count)

    def refined(
        self, network: KernelNetwork, factors: Sequence[Tensor], work: int
    ) -> list[Tensor] | None:
        """Factors of the kernel, nearer to it in the norm with the whole moment.

        By so many sweeps as take `work` multiply-accumulates; None where that is not one, or where
        the whole moment says no more than the turning does.
        """
        if self.seen is None:
            return None
        sweeps = min(SWEEPS, work // (self.kernel.numel() * self.seen.shape[1]))
        if not sweeps:
            return None
        grouped = with_group(network)
        pairs = zip(factors, grouped.shapes, strict=True)
        found = [factor.to(self.turned).reshape(shape) for factor, shape in pairs]
        for turning in self.whitenings:
            found = replace(turning, inverses=turning.roots).restored(found)
        kernel = by_group(self.turned, self.groups)
        found = weighted_least_squares(kernel, grouped, found, self.seen, sweeps)
        pairs = zip(found, network.shapes, strict=True)
        return self.restore([factor.reshape(shape) for factor, shape in pairs])


def distinct(layer: Layer, formats: Sequence[str]) -> list[Choice[Factorization]]:
    """The formats that differ on this layer: of a 1×1 kernel, say, several are one matrix product.

    One with a factor that has no open mode is left out where others do without.
    """
    shape, groups = layer.config.shape, layer.config.groups
    found: dict[Any, Choice[Factorization]] = {}
    for name in formats:
        choice = factorizations.choose(name)
        network = choice.plugin.network(shape, 2, groups)
        opens = [
            frozenset(m for m in f if m in network.open_modes and network.sizes[m] > 1)
            for f in network.factors
        ]
        found.setdefault(tuple(sorted(tuple(sorted(one)) for one in opens)), choice)
    whole = {opens: choice for opens, choice in found.items() if all(opens)}
    return list((whole or found).values())


def candidates(
    layer: Layer,
    kernel: Tensor,
    norm: Norm,
    energy: tuple[float, float],
    fitted: Fitted,
    ways: Sequence[str],
) -> Iterator[Candidate]:
    """What a decomposition costs and loses, run each way that does not refuse it.

    `energy` is the kernel's own in the norm, that its losses are relative to.
    """
    made = fitted.network.to_tensor(fitted.factors)
    lost = norm.squared(by_group(kernel - made, layer.config.groups))
    weighted, output = (
        (gap / (all_ or 1.0)) ** 0.5 for gap, all_ in zip(lost, energy, strict=True)
    )
    bias = layer.config.out_channels if layer.config.bias else 0
    asked = layer.request.get("implementation")
    for way in [asked] if asked else ways:
        runner = implementations.choose(way)
        try:
            plan = make_plan(fitted.choice, fitted.network, runner, layer.config.geometry)
        except ValueError:
            continue
        macs, traffic = work(layer, plan)
        yield Candidate(
            factorization=fitted.choice.name,
            implementation=runner.name,
            rank=fitted.rank,
            part_of=fitted.part_of,
            parameters=fitted.network.numel + bias,
            macs=macs,
            traffic=traffic,
            kernel_error=relative_error(kernel, made),
            output_error=output,
            weighted=weighted,
        )


def work(layer: Layer, plan: Any) -> tuple[int, int]:
    """Multiply-accumulates and traffic of all calls; the dense layer's for code of its own."""
    if not isinstance(plan, Chain):
        return layer.macs, layer.traffic
    macs = traffic = 0
    for batch, size, _ in layer.maps():
        macs += batch * plan.macs(size)
        traffic += batch * plan.traffic(size)
    return macs, traffic


def build(
    conv: Any, layer: Layer, candidate: Candidate, factors: Sequence[Tensor]
) -> FactorizedConv:
    """The layer that a candidate stands for, with the state, bias and hooks of `conv`."""
    config = layer.config
    assert candidate.factorization is not None
    assert candidate.implementation is not None
    choice = factorizations.choose(layer.request.get("factorization", candidate.factorization))
    way = layer.request.get("implementation", candidate.implementation)
    network = choice.plugin.network(config.shape, candidate.rank, config.groups)
    if candidate.part_of is not None:
        factors = leading(network, factors)
    made = FactorizedConv.from_factorization(
        FactorizedKernel(network, evened(factors), choice),
        implementation=way,
        bias=conv.bias,
        stride=config.stride,
        padding=config.padding,
        dilation=config.dilation,
        padding_mode=config.padding_mode,
        transposed=config.transposed,
        output_padding=config.output_padding,
    )
    source.copy_state(conv, made)
    for name in HOOKS:
        setattr(made, name, copy.copy(getattr(conv, name)))
    return made


def evened(factors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of equal norms, whose network is the same: they train better."""
    norms = [float(factor.double().norm()) for factor in factors]
    mean = prod(norms) ** (1 / len(norms))
    return [f * (mean / n) if mean else f.clone() for f, n in zip(factors, norms, strict=True)]


HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def put(model: nn.Module, layer: Layer, module: nn.Module) -> None:
    """Put a module in every place of `layer`."""
    for name in layer.names:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module)
