"""Layers that share one network: what they become, and the way into their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...layer import FactorizedConv, FactorizedKernel, JointConv, copy_state
from ...network import KernelNetwork
from ...plugin import Choice, Factorization
from ..candidates import Candidate, Table, evened, put, work
from ..choice import Choices, assemble
from ..survey import Layer

EACH = ("stride", "padding", "dilation", "padding_mode")  # of every layer its own


@dataclass(frozen=True)
class Tie:
    """Layers alike, and the factors that are to be theirs together.

    `convs` are the originals, whose biases, states and hooks the new layers have; `lost` are the
    errors of each kernel and of its output.
    """

    layers: tuple[Layer, ...]
    convs: tuple[Any, ...]
    choice: Choice[Factorization]
    way: str
    network: KernelNetwork
    factors: list[Tensor]
    lost: tuple[tuple[float, float, float], ...]  # as a `Meter` has them
    error: float | None = None  # of the network with these tied, where it was measured

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers)

    def made(self) -> JointConv:
        """The joint layer."""
        configs = [layer.config for layer in self.layers]
        each: dict[str, Any] = {name: [getattr(one, name) for one in configs] for name in EACH}
        bias: Any = [conv.bias for conv in self.convs]
        kernel = FactorizedKernel(self.network, evened(self.network, self.factors), self.choice)
        joint: Any = FactorizedConv.from_factorization(
            kernel, implementation=self.way, bias=bias, n_layers=len(configs), **each
        )
        copy_state(self.convs[0], joint)  # it stands in the place of its first layer
        joint[0].channels_last = joint.channels_last
        for member, conv in list(zip(joint, self.convs, strict=True))[1:]:
            copy_state(conv, member)
        found: JointConv = joint
        return found

    def put(self, model: nn.Module) -> None:
        """Put the joint layer in the place of the first, and the others into theirs."""
        joint = self.made()
        put(model, self.layers[0], joint)
        for layer, member in list(zip(self.layers, joint, strict=True))[1:]:
            put(model, layer, member)

    def candidates(self) -> Choices:
        """What a report says of each layer; the factors are counted in equal parts."""
        joint, found = self.made(), Choices()
        sizes = tuple(self.network.sizes[bond] for bond in self.network.bonds)
        rest = self.network.numel
        for place, (layer, member) in enumerate(zip(self.layers, joint, strict=True)):
            part = rest // (len(self.layers) - place)
            rest -= part
            counted = work(layer, member.plan)
            weighted, output, kernel = self.lost[place]
            found[layer.name] = Candidate(
                factorization=self.choice.name,
                implementation=self.way,
                rank=sizes[0] if len(sizes) == 1 else sizes,
                parameters=part + (0 if member.bias is None else member.bias.numel()),
                macs=counted[0] if counted else layer.macs,
                traffic=layer.traffic,
                kernel_error=kernel,
                output_error=output,
                weighted=weighted,
                error=self.error,
                joint=self.layers[0].name,
            )
        return found


def assembled(
    model: nn.Module,
    layers: Sequence[Layer],
    table: Table,
    choices: Choices,
    ties: Sequence[Tie] = (),
) -> nn.Module:
    """Put the chosen layers into the model, and those that are tied; return it."""
    assemble(model, layers, table, choices)
    for tie in ties:
        tie.put(model)
    return model
