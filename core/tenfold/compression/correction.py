"""Fit compressed layers, in order, to the original's response: no labels needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from ..contraction import plan_contraction
from ..conv import FactorizedConv
from ..moment import Moment
from ..network import GROUP, OUT, KernelNetwork
from ..source import read_kernel
from ..spectrum import by_group
from .calibration import batched, hooked, moment_bytes, share
from .candidates import Turned, evened
from .inference import Batch, call, evaluating
from .measurement import Judge
from .norm import Norm, Seen
from .survey import Layer

RIDGES = (0.1,)  # of the mean diagonal, towards the original kernel


class Reached(Exception):
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
        with hooked([module.register_forward_hook(keep)]), evaluating(model):
            try:
                call(model, batch)
            except Reached:
                pass
        yield list(found)


def respond(
    original: nn.Module,
    compressed: nn.Module,
    layer: Layer,
    batches: Sequence[Batch],
    seed: int,
) -> Response:
    """Gather what a layer is to be fitted to, from so many patches as that takes."""
    conv = original.get_submodule(layer.name)
    moment, groups = Moment(conv), layer.config.groups
    fraction = share(layer, len(batches))
    generator = torch.Generator().manual_seed(seed)
    total = None
    wanted = capture(original, layer, batches, inputs=False)
    given = capture(compressed, layer, batches, inputs=True)
    for answers, inputs in zip(wanted, given, strict=True):
        for y, x in zip(answers, inputs, strict=True):
            for patches, responses in _pairs(moment, layer, x, y):
                drawn = torch.rand(patches.shape[2], generator=generator) < fraction
                p, r = (rows[:, :, drawn.to(rows.device)] for rows in (patches, responses))
                count = torch.tensor(float(p.shape[2]), dtype=torch.float64)
                added = [p @ p.mT, r @ p.mT, p.sum(2), r.sum(2), count]
                wide = [part.double() for part in added]
                total = wide if total is None else [a + b for a, b in zip(total, wide, strict=True)]
    assert total is not None
    seen, cross, sums, answers_, count = total
    mean, answer = sums / count, answers_ / count
    if layer.config.bias:
        seen = seen - count * mean[:, :, None] * mean[:, None]
        cross = cross - count * answer[:, :, None] * mean[:, None]
    return Response(seen, cross, mean, answer)


def _pairs(moment: Moment, layer: Layer, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Patches `(groups, n, positions)` with the responses `(groups, out, positions)` to them."""
    order, groups = layer.config.order, layer.config.groups
    y = batched(y, order)
    rows = y.movedim(-order - 1, 0).flatten(1).float()
    rows = rows.reshape(groups, -1, rows.shape[1])
    at = 0
    for patches in moment.patches_of(batched(x, order)):
        yield patches, rows[:, :, at : at + patches.shape[2]]
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
        if isinstance(made, FactorizedConv) and moment_bytes(layer) <= memory:
            response = respond(original, compressed, layer, batches, seed)
            kernel = read_kernel(original.get_submodule(layer.name))
            for fitted in proposals(made, kernel, response, worths.get(layer.name), seed):
                error = kept(made, fitted, judge, compressed, error)
        yield layer.name


@torch.no_grad()
def kept(
    made: FactorizedConv,
    fitted: tuple[list[Tensor], Tensor | None],
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
) -> Iterator[tuple[list[Tensor], Tensor | None]]:
    """New factors and biases to try, one after another."""
    network, groups = made.weight.network, made.config.groups
    present = [factor.detach().double() for factor in made.weight.factors]
    yield _with_bias(made, network, refit(network, present, response), response)
    norm = Norm.of(Seen(response.seen), worth, kernel)
    for ridge in RIDGES:
        target = regress(by_group(kernel, groups), response, ridge).flatten(0, 1)
        turned = Turned(made.weight.choice.plugin, target, norm, groups)
        generator = torch.Generator().manual_seed(seed)
        factors = turned.factors(network, generator)
        yield _with_bias(made, network, refit(network, factors, response), response)


def regress(kernel: Tensor, response: Response, ridge: float) -> Tensor:
    """The kernel, `(groups, out, in, *k)`, that answers best, near the original one."""
    size = response.seen.shape[1]
    pull = ridge * response.seen.diagonal(dim1=1, dim2=2).mean()
    system = response.seen + pull * torch.eye(size).to(response.seen)
    right = response.cross + pull * kernel.flatten(2).to(response.cross)
    solved = torch.cholesky_solve(right.mT, torch.linalg.cholesky(system))
    return solved.mT.reshape(kernel.shape)


def refit(network: KernelNetwork, factors: Sequence[Tensor], response: Response) -> list[Tensor]:
    """The factors with the output's fitted anew: a linear regression on what the others give.

    Unchanged where several factors have the output.
    """
    owners = [index for index, names in enumerate(network.factors) if OUT in names]
    if len(owners) != 1:
        return list(factors)
    owner = owners[0]
    names = network.factors[owner]
    others = [index for index in range(len(factors)) if index != owner]
    group = (GROUP,) if GROUP in names else ()
    inputs = network.open_modes[len(group) + 1 :]
    features = tuple(mode for mode in names if mode not in (OUT, GROUP))
    primed = {mode: f"{mode}'" for mode in (*inputs, *network.bonds)}
    twins = [tuple(primed.get(m, m) for m in network.factors[i]) for i in others]
    after = tuple(primed[m] for m in features)
    sizes = {**network.sizes, **{primed[m]: network.sizes[m] for m in primed}}
    shape = [sizes[m] for m in (*group, *inputs)]
    seen = response.seen.reshape(*shape, *shape[len(group) :])
    cross = response.cross.reshape(*(sizes[m] for m in (*group, OUT, *inputs)))
    parts = [factors[i].double() for i in others]
    moment = plan_contraction(
        [
            *(network.factors[i] for i in others),
            (*group, *inputs, *(primed[m] for m in inputs)),
            *twins,
        ],
        (*group, *features, *after),
        sizes,
    )([*parts, seen, *parts])
    right = plan_contraction(
        [(*group, OUT, *inputs), *(network.factors[i] for i in others)],
        (*group, *features, OUT),
        sizes,
    )([cross, *parts])
    count = prod(sizes[m] for m in features)
    groups = network.groups
    system, wanted = moment.reshape(groups, count, count), right.reshape(groups, count, -1)
    order = [names.index(m) for m in (*group, *features, OUT)]
    present = factors[owner].double().permute(order).reshape(wanted.shape)
    pull = 1e-3 * system.diagonal(dim1=1, dim2=2).mean()
    system = system + pull * torch.eye(count).to(system)
    solved = torch.linalg.solve(system, wanted + pull * present)
    back = [order.index(axis) for axis in range(len(order))]
    fresh = solved.reshape(*(sizes[m] for m in (*group, *features, OUT))).permute(back)
    return [fresh if index == owner else factor for index, factor in enumerate(factors)]


def _with_bias(
    made: FactorizedConv, network: KernelNetwork, factors: list[Tensor], response: Response
) -> tuple[list[Tensor], Tensor | None]:
    if made.bias is None:
        return factors, None
    rows = by_group(network.to_tensor(factors), network.groups).flatten(2)
    bias = response.answer - (rows.double() @ response.mean[:, :, None])[..., 0]
    return factors, bias.flatten()
