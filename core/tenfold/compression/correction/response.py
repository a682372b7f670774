"""What a compressed layer is to be fitted to: the original's responses to what it sees now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...algebra import on_one_thread
from ...layer import Moment
from ..moments import FEW, Importance, Sampling, effective, plenty
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
    importance: Importance,
    features: Tensor | None = None,
) -> Response | None:
    """Gather what a layer is to be fitted to, from so many patches as that takes.

    With `features` the sums are over those linear maps of the patches. None where the layer is not
    called on any of the batches.
    """
    moment = Moment(original.get_submodule(layer.name))
    wanted = plenty(layer) if features is None else FEW
    places = importance.places.get(layer.name)
    sampling = Sampling(layer, len(batches), wanted, places, seed)
    sums = Sums(centred=layer.config.bias)
    answers = capture(original, layer, batches, inputs=False)
    given = capture(compressed, layer, batches, inputs=True)
    for batch, calls in enumerate(zip(answers, given, strict=True)):
        for index, (y, x) in enumerate(zip(*calls, strict=False)):
            if not x.numel() or len(x) != len(y):  # each picked its own items
                continue
            rows = _rows(layer, x, y)
            for patches, where, weights in sampling.draw(moment, x, batch, index):
                p = patches if features is None else features.to(patches) @ patches
                with on_one_thread(patches.numel()):
                    sums.add(p, rows[:, :, where.to(rows.device)].to(p), weights)
    return sums.response() if sums.weight else None


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
        often = p * weights
        added = [part.double() for part in (often @ p.mT, r @ often.mT)]
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


def _rows(layer: Layer, x: Tensor, y: Tensor) -> Tensor:
    """The responses `(groups, out, places)` to an input, in the order of its patches."""
    order, groups = layer.config.order, layer.config.groups
    x, y = batched(x, order), batched(y, order)
    if layer.config.transposed:  # with an output_size it gives some places more
        for axis, size in enumerate(layer.config.geometry.output_size(x.shape[2:]), start=2):
            y = y.narrow(axis, 0, size)
    rows = y.movedim(-order - 1, 0).flatten(1)
    return rows.reshape(groups, -1, rows.shape[1])
