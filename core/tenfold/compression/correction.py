"""Fit compressed layers, in order, to the original's response: no labels needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from ..conv import FactorizedConv
from ..moment import Moment
from ..network import GROUP, OUT, KernelNetwork
from ..source import read_kernel
from ..spectrum import by_group
from .calibration import FEW, batched, hooked, is_wide, share
from .candidates import Turned, evened
from .inference import Batch, call, evaluating
from .measurement import Judge
from .norm import Norm, Seen
from .survey import Layer

RIDGES = (0.1,)  # of the mean diagonal, towards the original kernel
RIDGE = 1e-3  # likewise, towards the present factor of the output
Fit = tuple[list[Tensor], Tensor | None]  # factors and bias


class Reached(Exception):  # noqa: N818 - it is no error
    """The layer that was waited for has run: the rest of the network need not."""


@dataclass
class Response:
    """Sums over patches `p` of a compressed network and the original's responses `y` to them.

    `seen` is `Σ p pᵀ`, `cross` is `Σ y pᵀ`, both with a leading axis of groups; where the layer has
    a bias they are about the means, which the bias takes.
    """

    seen: Tensor  # (groups, n, n)
    cross: Tensor  # (groups, out, n)
    mean: Tensor  # (groups, n)
    answer: Tensor  # (groups, out), the mean response
    count: int  # of patches

    def projected(self, features: Tensor) -> Response:
        """The same sums over linear maps `(groups, m, n)` of the patches."""
        return Response(
            features @ self.seen @ features.mT,
            self.cross @ features.mT,
            (features @ self.mean[:, :, None])[..., 0],
            self.answer,
            self.count,
        )


def capture(
    model: nn.Module, layer: Layer, batches: Sequence[Batch], inputs: bool
) -> Iterator[list[Tensor]]:
    """For each batch the inputs, or the outputs, of a layer's calls."""
    module = model.get_submodule(layer.name)
    found: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        found.append((given[0] if inputs else output).detach().clone())
        if len(found) == layer.calls:
            raise Reached

    for batch in batches:
        found.clear()
        handle = module.register_forward_hook(keep, prepend=True)  # users' hooks come after
        with hooked([handle]), evaluating(model), suppress(Reached):
            call(model, batch)
        yield list(found)


def respond(
    original: nn.Module,
    compressed: nn.Module,
    layer: Layer,
    batches: Sequence[Batch],
    seed: int,
    features: Tensor | None = None,
) -> Response | None:
    """Gather what a layer is to be fitted to, from so many patches as that takes.

    With `features` the sums are over those linear maps of the patches. None where the layer is not
    called on any of the batches.
    """
    moment = Moment(original.get_submodule(layer.name))
    fraction = share(layer, len(batches), None if features is None else FEW)
    generator = torch.Generator().manual_seed(seed)
    sums = Sums(centred=layer.config.bias)
    wanted = capture(original, layer, batches, inputs=False)
    given = capture(compressed, layer, batches, inputs=True)
    for answers, inputs in zip(wanted, given, strict=True):
        for y, x in zip(answers, inputs, strict=True):
            for patches, responses in _pairs(moment, layer, x, y):
                drawn = torch.rand(patches.shape[2], generator=generator) < fraction
                p, r = (rows[:, :, drawn.to(rows.device)] for rows in (patches, responses))
                if p.shape[2]:
                    sums.add(p if features is None else features.to(p) @ p, r)
    return sums.response() if sums.count else None


class Sums:
    """Sums of squares and products over patches and responses, about the means where asked.

    They are taken about the first patches' means, which costs less rounding than about zero.
    """

    def __init__(self, centred: bool) -> None:
        self.centred = centred
        self.middle: list[Tensor] = []  # of patches and responses
        self.parts: list[Tensor] = []
        self.count = 0

    def add(self, patches: Tensor, responses: Tensor) -> None:
        """Add `(groups, n, positions)` and `(groups, out, positions)`."""
        if not self.middle:
            gain = 1.0 if self.centred else 0.0
            self.middle = [gain * rows.mean(2, keepdim=True) for rows in (patches, responses)]
        p, r = (
            rows - middle for rows, middle in zip((patches, responses), self.middle, strict=True)
        )
        added = [part.double() for part in (p @ p.mT, r @ p.mT, p.sum(2), r.sum(2))]
        pairs = zip(self.parts or map(torch.zeros_like, added), added, strict=True)
        self.parts = [one + more for one, more in pairs]
        self.count += p.shape[2]

    def response(self) -> Response:
        """What the sums say."""
        seen, cross, *sums = self.parts
        away, off = (one / self.count for one in sums)
        mean, answer = (
            middle[..., 0].double() + one
            for middle, one in zip(self.middle, (away, off), strict=True)
        )
        if self.centred:
            seen = seen - self.count * away[:, :, None] * away[:, None]
            cross = cross - self.count * off[:, :, None] * away[:, None]
        return Response(seen, cross, mean, answer, self.count)


def _pairs(moment: Moment, layer: Layer, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Patches `(groups, n, positions)` with the responses `(groups, out, positions)` to them."""
    order, groups = layer.config.order, layer.config.groups
    x, y = batched(x, order), batched(y, order)
    if layer.config.transposed:  # with an output_size it gives some positions more
        for axis, size in enumerate(layer.config.geometry.output_size(x.shape[2:]), start=2):
            y = y.narrow(axis, 0, size)
    rows = y.movedim(-order - 1, 0).flatten(1)
    rows = rows.reshape(groups, -1, rows.shape[1])
    at = 0
    for patches in moment.patches_of(x):
        yield patches, rows[:, :, at : at + patches.shape[2]].to(patches)
        at += patches.shape[2]


def correct(
    original: nn.Module,
    compressed: nn.Module,
    layers: Sequence[Layer],
    batches: Sequence[Batch],
    judge: Judge,
    seed: int,
    worths: dict[str, Tensor],
    memory: int,
) -> Iterator[str]:
    """Refit each factorized layer of `compressed`, in order; yield its name when it is done.

    The kernel is regressed onto the original's response from the compressed network's input, with a
    ridge towards the original kernel, and factorized anew; then the output's factor and the bias
    are fitted once more. A step stays only if it lowers the output's change on held-out inputs.
    (Asymmetric reconstruction: Zhang et al. 2016, arXiv 1505.06798.)
    """
    error = judge.change(compressed)
    for layer in layers:
        made = compressed.get_submodule(layer.name)
        if isinstance(made, FactorizedConv):
            network = made.weight.network
            factors = [factor.detach().double() for factor in made.weight.factors]
            tried: Iterator[Fit] = iter(())
            if not is_wide(layer, memory):
                response = respond(original, compressed, layer, batches, seed)
                kernel = read_kernel(original.get_submodule(layer.name))
                if response is not None:
                    tried = proposals(made, kernel, response, worths.get(layer.name), seed)
            elif (seeds := features(network, factors)) is not None:
                response = respond(original, compressed, layer, batches, seed, seeds)
                if response is not None:
                    tried = iter([solved(network, factors, response)])
            for fitted in tried:
                error = kept(made, fitted, judge, compressed, error)
        yield layer.name


@torch.no_grad()
def kept(
    made: FactorizedConv,
    fitted: Fit,
    judge: Judge,
    compressed: nn.Module,
    error: float,
) -> float:
    """Give a layer new factors and bias; take them back where the error does not fall."""
    state = {name: value.clone() for name, value in made.state_dict().items()}
    factors, bias = fitted
    for parameter, factor in zip(made.weight.factors, evened(factors), strict=True):
        parameter.copy_(factor)
    if made.bias is not None and bias is not None:
        made.bias.copy_(bias)
    found = judge.change(compressed)
    if found < error:
        return found
    made.load_state_dict(state)
    return error


@torch.no_grad()
def proposals(
    made: FactorizedConv, kernel: Tensor, response: Response, worth: Tensor | None, seed: int
) -> Iterator[Fit]:
    """New factors and biases to try, one after another."""
    network, groups = made.weight.network, made.config.groups
    yield refit(network, [factor.detach().double() for factor in made.weight.factors], response)
    norm = Norm.of(Seen(response.seen, count=response.count), worth, kernel)
    for ridge in RIDGES:
        target = regress(by_group(kernel, groups), response, ridge).flatten(0, 1)
        turned = Turned(made.weight.choice.plugin, target, norm, groups)
        generator = torch.Generator().manual_seed(seed)
        yield refit(network, turned.factors(network, generator), response)


def regress(kernel: Tensor, response: Response, ridge: float) -> Tensor:
    """The kernel, `(groups, out, …)`, that answers best, near the one given."""
    size = response.seen.shape[1]
    pull = ridge * response.seen.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-30)
    one = torch.eye(size).to(response.seen)
    while True:
        lower, failed = torch.linalg.cholesky_ex(response.seen + pull * one)
        if not bool(failed.any()):
            break
        pull = 10 * pull  # rounding left the moment less definite than that
    right = response.cross + pull * kernel.flatten(2).to(response.cross)
    return torch.cholesky_solve(right.mT, lower).mT.reshape(kernel.shape)


def refit(network: KernelNetwork, factors: Sequence[Tensor], response: Response) -> Fit:
    """The output's factor and the bias fitted anew to what the other factors give."""
    seeds = features(network, factors)
    if seeds is None:
        return list(factors), None
    return solved(network, factors, response.projected(seeds))


def owner(network: KernelNetwork) -> int | None:
    """The one factor that has the output; None where several have."""
    owners = [index for index, names in enumerate(network.factors) if OUT in names]
    return owners[0] if len(owners) == 1 else None


def features(network: KernelNetwork, factors: Sequence[Tensor]) -> Tensor | None:
    """What the output's factor multiplies, as a linear map of patches: `(groups, features, n)`.

    It is the kernel of the network in which that factor is the identity.
    """
    place = owner(network)
    if place is None:
        return None
    names = network.factors[place]
    apart = [mode for mode in names if mode not in (OUT, GROUP)]
    sizes = [network.sizes[mode] for mode in apart]
    one = torch.eye(prod(sizes)).reshape(-1, *sizes).to(factors[place])
    ordered = (OUT, *apart)
    unit = one.permute([ordered.index(mode) for mode in names if mode != GROUP])
    if GROUP in names:
        unit = unit.unsqueeze(names.index(GROUP)).expand(
            *(network.groups if mode == GROUP else -1 for mode in names)
        )
    wide = KernelNetwork(network.factors, {**network.sizes, OUT: prod(sizes)})
    parts = [unit if index == place else factor for index, factor in enumerate(factors)]
    return by_group(wide.to_tensor(parts), network.groups).flatten(2)


def solved(network: KernelNetwork, factors: Sequence[Tensor], response: Response) -> Fit:
    """The output's factor, by regression on the features that the response is about."""
    place = owner(network)
    assert place is not None
    names = network.factors[place]
    group = [GROUP] if GROUP in names else []
    ordered = [*group, OUT, *(mode for mode in names if mode not in (OUT, GROUP))]
    there = factors[place].double().permute([names.index(mode) for mode in ordered])
    rows = there if group else there[None]
    fresh = regress(rows, response, RIDGE)
    bias = response.answer - (fresh.flatten(2) @ response.mean[:, :, None])[..., 0]
    back = (fresh if group else fresh[0]).permute([ordered.index(mode) for mode in names])
    found = [back if index == place else factor for index, factor in enumerate(factors)]
    return found, bias.flatten()
