"""What a compressed layer is to be fitted to: the original's responses to what it sees now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from ...algebra import add_square, mirrored, on_one_thread
from ..measurement import Replay
from ..moments import Patches, effective
from ..running import Batch, call, evaluating, hooked
from ..survey import Layer
from .answers import Answer, Reached, Watch


@dataclass
class Response:
    """Sums over patches `p` of a compressed network and the original's responses `y` to them.

    `seen` is `Σ w p pᵀ`, `cross` is `Σ w y pᵀ`, `w` being what each patch counts, with a leading
    axis of groups; where the layer has a bias they are about the means, which the bias takes.
    They weigh `weight` together, and say as much as `count` equal ones.
    """

    seen: Tensor  # (groups, n, n)
    cross: Tensor  # (groups, out, n)
    mean: Tensor  # (groups, n)
    answer: Tensor  # (groups, out), the mean response
    count: int
    weight: float

    def halfway(self, kernel: Tensor, bias: Tensor | None) -> Response:
        """The same with responses halfway from what a kernel `(groups, out, n)` gives."""
        given = (kernel @ self.mean[:, :, None])[..., 0]
        if bias is not None:
            given = given + bias.reshape(given.shape)
        cross, answer = (self.cross + kernel @ self.seen) / 2, (self.answer + given) / 2
        return replace(self, cross=cross, answer=answer)

    def times(self, height: float) -> Response:
        """The same with each patch counting so many times as much."""
        return replace(self, seen=height * self.seen, cross=height * self.cross)

    def projected(self, features: Tensor) -> Response:
        """The same sums over linear maps `(groups, m, n)` of the patches."""
        return Response(
            features @ self.seen @ features.mT,
            self.cross @ features.mT,
            (features @ self.mean[:, :, None])[..., 0],
            self.answer,
            self.count,
            self.weight,
        )


def responses(
    compressed: nn.Module,
    layers: Sequence[Layer],
    batches: Sequence[Batch],
    answered: Mapping[str, Answer],
    features: Mapping[str, Tensor | None],
    replay: Replay,
) -> dict[str, Response]:
    """Run the compressed network up to its layers, once, for what they are to be fitted to.

    What is in front of them is as it will stay, and answers from memory. With a layer's `features`
    the sums are over those linear maps of the patches. Without one where it is not called on any of
    the batches.
    """
    sums = {layer.name: Sums(centred=layer.config.bias) for layer in layers}
    patches = {n.name: Patches(n) for n in layers}
    done = {(layer.name, batch): 0 for layer in layers for batch in range(len(batches))}

    def take(layer: Layer, batch: int, x: Tensor) -> None:
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

    watch = Watch(layers)
    handles = [
        compressed.get_submodule(layer.name).register_forward_pre_hook(
            partial(watch.see, layer, take)
        )
        for layer in layers
    ]
    first = layers[0].name
    with hooked(handles):
        for at, batch in enumerate(watch.over(batches)):
            with evaluating(compressed), replay.keeping(compressed, first, at), suppress(Reached):
                call(compressed, batch)
    return {name: one.response() for name, one in sums.items() if one.weight}


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
        if not self.parts:
            sizes = (p.shape[1], p.shape[1]), (r.shape[1], p.shape[1]), (p.shape[1],), (r.shape[1],)
            self.parts = [p.new_zeros(len(p), *size) for size in sizes]
        add_square(self.parts[0], often)
        self.parts[1].baddbmm_(r * root, often.mT)
        self.parts[2] += p @ weights.to(p)
        self.parts[3] += r @ weights.to(r)
        self.weight += float(weights.sum())
        self.square += float(weights.square().sum())

    def response(self) -> Response:
        """What the sums say."""
        seen, cross, *sums = (one.double() for one in (mirrored(self.parts[0]), *self.parts[1:]))
        away, off = (one / self.weight for one in sums)
        mean, answer = (
            middle[..., 0].double() + one
            for middle, one in zip(self.middle, (away, off), strict=True)
        )
        if self.centred:
            seen = seen - self.weight * away[:, :, None] * away[:, None]
            cross = cross - self.weight * off[:, :, None] * away[:, None]
        count = effective(self.weight, self.square)
        return Response(seen, cross, mean, answer, count, self.weight)
