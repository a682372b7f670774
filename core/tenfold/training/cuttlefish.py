"""When to factorize a network that is being trained, and how far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, prod
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..arguments import check_number
from ..compression.survey import Layer
from ..layer import FactorizedConv, read_kernel, swap_channels
from ..model import substitute
from ..plugin import Factorization, Implementation, factorizations, implementations
from .factorizing import check_source, low_rank, named, wanted
from .moments import carry, check_optimizer, in_order
from .ranks import projected, tangent_of
from .stable import full_ranks, stable_ranks
from .structure import fixed_rank

Ranks = dict[str, tuple[float, ...]]


class Cuttlefish:
    """Trains a network dense until its stable ranks settle, then factorizes it, in its place.

    `step()` is called after each epoch. It takes each layer's stable rank `‖A‖_F² / ‖A‖₂²`, of the
    kernel `A` unfolded at each bond of the format, scaled so that the first one taken is the full
    rank. When no layer's has changed by more than the fraction `settled` of it from one epoch to
    the next, the layers are decomposed at those ranks, or at `rank`, if that is given; layers that
    this does not make smaller stay dense. Momentum and Adam's moments go through the chain rule of
    the factors. Wang et al. 2023, "Cuttlefish", MLSys, arXiv 2305.02538.

    `optimizer` may be None. Factors go to its group that decays nothing, if there is one, as
    `parameter_groups` makes it: the loss may have `frobenius_decay(model, …)` from the start, which
    is zero while all is dense. What else holds the old parameters (`DistributedDataParallel`, an
    average of weights, a compiled module) is to be made anew after the switch. The other arguments
    are those of `factorize`. `ranks` are the scaled stable ranks by epoch, `switched` what became
    of each layer: its rank, or None where it stays dense; None before the switch.

    Raises `ValueError` or `TypeError` for a bad argument, and where no layer can be factorized.

    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> cuttlefish = Cuttlefish(model, optimizer, rank=0.25, exclude=["0"])
    >>> cuttlefish.step(), cuttlefish.step()  # nothing is trained here, so all is settled at once
    (False, True)
    >>> cuttlefish.switched, len(cuttlefish.ranks), type(model[1]).__name__
    ({'1': (5, 8)}, 2, 'FactorizedConv')
    >>> again = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3))
    >>> Cuttlefish(again, None, exclude=["0"]).load_state_dict(cuttlefish.state_dict())
    >>> again.load_state_dict(model.state_dict())
    <All keys matched successfully>
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None,
        *,
        rank: Any = None,
        factorization: str | Factorization | type[Factorization] = "tucker",
        implementation: str | Implementation | type[Implementation] = "factorized",
        include: Sequence[Any] = (),
        exclude: Sequence[Any] = (),
        settled: float = 0.1,
    ) -> None:
        check_source(model)
        check_number("settled", settled)
        if not settled >= 0:
            raise ValueError(f"settled={settled} must be at least 0")
        factorizations.choose(factorization)
        implementations.choose(implementation)
        self.model, self.optimizer = model, optimizer
        self.rank, self.settled = rank, settled
        self.request = {"factorization": factorization, "implementation": implementation}
        self.layers = wanted(model, include, exclude)
        check_optimizer(optimizer, [])
        for layer in self.layers:
            asked = layer.request.get("rank", rank)
            with named(layer):
                fixed_rank(
                    self._plugin(layer),
                    layer.config.shape,
                    1 if asked is None else asked,
                    layer.config.groups,
                )
        self.ranks: list[Ranks] = []
        self.switched: dict[str, Any] | None = None
        self._scales: Ranks = {}

    def step(self) -> bool:
        """Take the ranks after an epoch; whether the network was factorized now.

        Raises `ValueError`, before anything is changed, for weights that are not finite and for an
        optimizer whose state cannot be carried over.
        """
        if self.switched is not None:
            return False
        check_source(self.model)
        self.ranks.append({layer.name: self._scaled(layer) for layer in self.layers})
        if len(self.ranks) < 2 or not self._has_settled():
            return False
        self._switch({layer.name: self._asked(layer) for layer in self.layers})
        return True

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far, and the ranks since the switch."""
        return {"ranks": self.ranks, "scales": self._scales, "switched": self.switched}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: where the network was factorized then, it is now, at the same ranks.

        To be called before the model's and the optimizer's own states are loaded: theirs have the
        shapes of the factors. Raises `ValueError` for layers that the model has not.
        """
        unknown = set(state["switched"] or ()) - {layer.name for layer in self.layers}
        if unknown:
            raise ValueError(
                f"state has layers {sorted(unknown)}, which this model has not among those to be "
                "factorized: give the same model, include= and exclude="
            )
        self.ranks, self._scales = list(state["ranks"]), dict(state["scales"])
        if state["switched"] is not None and self.switched is None:
            self._switch(dict(state["switched"]))

    def _plugin(self, layer: Layer) -> Factorization:
        asked = layer.request.get("factorization", self.request["factorization"])
        return factorizations.choose(asked).plugin

    def _scaled(self, layer: Layer) -> tuple[float, ...]:
        network = self._plugin(layer).network(layer.config.shape, 1, layer.config.groups)
        found = stable_ranks(read_kernel(self.model.get_submodule(layer.name)), network)
        if layer.name not in self._scales:
            full = full_ranks(network)
            self._scales[layer.name] = tuple(f / s for f, s in zip(full, found, strict=True))
        return tuple(s * r for s, r in zip(self._scales[layer.name], found, strict=True))

    def _has_settled(self) -> bool:
        before, now = self.ranks[-2:]
        return all(
            abs(new - old) <= self.settled * old
            for name in now
            for old, new in zip(before[name], now[name], strict=True)
        )

    def _asked(self, layer: Layer) -> Any:
        asked = layer.request.get("rank", self.rank)
        if asked is not None:
            return asked
        return tuple(max(1, ceil(one)) for one in self.ranks[-1][layer.name])

    def _switch(self, ranks: Mapping[str, Any]) -> None:
        """Factorize the layers that this makes smaller: all are made before one is changed."""
        made: dict[str, FactorizedConv] = {}
        for layer in self.layers:
            if ranks.get(layer.name) is None:
                continue
            request = {**self.request, **layer.request, "rank": ranks[layer.name]}
            one = low_rank(self.model, layer, request, "spectral")
            if one.weight.numel() < prod(layer.config.shape):
                made[layer.name] = one
        dense: list[Any] = [self.model.get_submodule(name) for name in made]
        check_optimizer(self.optimizer, [conv.weight for conv in dense])
        for layer in self.layers:
            if layer.name in made:
                self._replace(layer, made[layer.name])
        in_order(self.optimizer, self.model)
        self.switched = {
            layer.name: made[layer.name].rank if layer.name in made else None
            for layer in self.layers
        }

    def _replace(self, layer: Layer, made: FactorizedConv) -> None:
        conv: Any = self.model.get_submodule(layer.name)
        made.bias = conv.bias  # the same parameter, which the optimizer knows
        substitute(self.model, dict.fromkeys(layer.names, made))
        tangent = tangent_of(made.weight)
        new = [made.weight.factors[index] for index in made.weight.network.free]

        def through(_: str, square: bool, kept: list[torch.Tensor]) -> list[torch.Tensor]:
            (average,) = kept
            if layer.config.transposed:
                average = swap_channels(average, layer.config.groups)
            return projected(tangent, average.to(tangent.factors[0].dtype), square)

        carry(self.optimizer, [conv.weight], new, through)
