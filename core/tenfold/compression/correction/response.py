"""What a compressed layer is to be fitted to: the original's responses to what it sees now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...algebra import on_one_thread, symmetric_product
from ..moments import Importance, Patches, Sampling, effective
from ..running import Batch, batched, call, evaluating, hooked
from ..survey import Layer


class Reached(Exception):  # noqa: N818 - it is no error
    """The layer that was waited for has run: the rest of the network need not."""


@dataclass
class Response:
    """Sums over patches `p` of a compressed network and the original's responses `y` to them.

    `seen` is `Σ w p pᵀ`, `cross` is `Σ w y pᵀ`, `w` being what each patch counts, with a leading
    axis of groups; where the layer has a bias they are about the means, which the bias takes.
    `count` is that of as many equal patches as say as much.
    """

    seen: Tensor  # (groups, n, n)
    cross: Tensor  # (groups, out, n)
    mean: Tensor  # (groups, n)
    answer: Tensor  # (groups, out), the mean response
    count: int

    def projected(self, features: Tensor) -> Response:
        """The same sums over linear maps `(groups, m, n)` of the patches."""
        return Response(
            features @ self.seen @ features.mT,
            self.cross @ features.mT,
            (features @ self.mean[:, :, None])[..., 0],
            self.answer,
            self.count,
        )


@dataclass
class Answer:
    """What the original answers at some places, call by call.

    Of how many items, which places `(few,)`, what each counts `(few,)`, and the answers
    `(groups, out, few)`.
    """

    calls: list[list[tuple[int, Tensor, Tensor, Tensor]]]  # of each batch


def answers(
    original: nn.Module,
    layers: Sequence[Layer],
    batches: Sequence[Batch],
    wanted: Mapping[str, int],
    importance: Importance,
    seed: int,
) -> dict[str, Answer]:
    """Run the original once, for what some layers answer at so many places."""
    found = {layer.name: Answer([[] for _ in batches]) for layer in layers}
    samplings = {
        layer.name: Sampling(
            layer, len(batches), wanted[layer.name], importance.places.get(layer.name), seed
        )
        for layer in layers
    }

    def keep(layer: Layer, batch: int, x: Tensor, y: Tensor) -> None:
        calls = found[layer.name].calls[batch]
        where, weights = samplings[layer.name].draw(x.shape, batch, len(calls))
        rows = _rows(layer, x, y, where) if len(where) else y
        calls.append((len(x), where, weights, rows))

    _watched(original, layers, batches, keep)
    return found


def responses(
    compressed: nn.Module,
    layers: Sequence[Layer],
    batches: Sequence[Batch],
    answered: Mapping[str, Answer],
    features: Mapping[str, Tensor | None],
) -> dict[str, Response]:
    """Run the compressed network once, for what its layers are to be fitted to.

    With a layer's `features` the sums are over those linear maps of the patches. Without one where
    it is not called on any of the batches.
    """
    sums = {layer.name: Sums(centred=layer.config.bias) for layer in layers}
    patches = {n.name: Patches(n) for n in layers}
    done = {(layer.name, batch): 0 for layer in layers for batch in range(len(batches))}

    def take(layer: Layer, batch: int, x: Tensor, _: Tensor) -> None:
        name, call_ = layer.name, done[layer.name, batch]
        done[name, batch] += 1
        if call_ >= len(answered[name].calls[batch]):
            return
        items, where, weights, rows = answered[name].calls[batch][call_]
        if len(x) != items or not len(where):  # each picked its own items, or none
            return
        linear = features[name]
        for seen, some in patches[name].at(x, where):
            p = seen if linear is None else linear.to(seen) @ seen
            with on_one_thread(p.numel()):
                sums[name].add(p, rows[:, :, some].to(p), weights[some].to(p))

    _watched(compressed, layers, batches, take)
    return {name: one.response() for name, one in sums.items() if one.weight}


def _watched(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Sequence[Batch],
    look: Callable[[Layer, int, Tensor, Tensor], None],
) -> None:
    """Run a network, and let some layers' inputs and outputs be looked at, until the last of them.

    Of each call: the layer, which batch, the input and the output.
    """
    left = at = 0

    def hook(layer: Layer) -> Callable[..., None]:
        def see(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal left
            look(layer, at, given[0].detach(), output.detach())
            left -= 1
            if not left:
                raise Reached

        return see

    handles = [  # users' hooks come after
        model.get_submodule(layer.name).register_forward_hook(hook(layer), prepend=True)
        for layer in layers
    ]
    with hooked(handles):
        for at, batch in enumerate(batches):  # noqa: B007 - the hooks read it
            left = sum(layer.calls for layer in layers)
            with evaluating(model), suppress(Reached):
                call(model, batch)


class Sums:
    """Sums of squares and products over patches and responses, about the means where asked.

    They are taken about the first patches' means, which costs less rounding than about zero.
    """

    def __init__(self, centred: bool) -> None:
        self.centred = centred
        self.middle: list[Tensor] = []  # of patches and responses
        self.parts: list[Tensor] = []
        self.weight = self.square = 0.0

    def add(self, patches: Tensor, responses: Tensor, weights: Tensor) -> None:
        """Add `(groups, n, few)` and `(groups, out, few)`, each so many times."""
        if not self.middle:
            gain = 1.0 if self.centred else 0.0
            self.middle = [gain * rows.mean(2, keepdim=True) for rows in (patches, responses)]
        p, r = (
            rows - middle for rows, middle in zip((patches, responses), self.middle, strict=True)
        )
        root = weights.sqrt()
        often = p * root
        added = [one.double() for one in (symmetric_product(often), (r * root) @ often.mT)]
        added += [(one * weights).sum(2, dtype=torch.float64) for one in (p, r)]
        pairs = zip(self.parts or map(torch.zeros_like, added), added, strict=True)
        self.parts = [one + more for one, more in pairs]
        self.weight += float(weights.sum())
        self.square += float(weights.square().sum())

    def response(self) -> Response:
        """What the sums say."""
        seen, cross, *sums = self.parts
        away, off = (one / self.weight for one in sums)
        mean, answer = (
            middle[..., 0].double() + one
            for middle, one in zip(self.middle, (away, off), strict=True)
        )
        if self.centred:
            seen = seen - self.weight * away[:, :, None] * away[:, None]
            cross = cross - self.weight * off[:, :, None] * away[:, None]
        return Response(seen, cross, mean, answer, effective(self.weight, self.square))


def _rows(layer: Layer, x: Tensor, y: Tensor, where: Tensor) -> Tensor:
    """The responses `(groups, out, few)` to an input at places of the flattened output."""
    order, groups = layer.config.order, layer.config.groups
    x, y = (batched(one, order) if order else one.flatten(0, -2) for one in (x, y))
    for axis, size in enumerate(layer.places(x.shape)[1:], start=2):
        y = y.narrow(axis, 0, size)  # transposed with an output_size it gives some places more
    rows = y.flatten(2).movedim(1, 2).flatten(0, 1) if order else y
    drawn = rows.index_select(0, where.to(y.device)).T
    return drawn.reshape(groups, rows.shape[1] // groups, len(where)).contiguous()
