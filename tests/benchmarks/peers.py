"""What a user would otherwise do: one rank rule for every convolution, and its knob.

Each rule gives a layer its Tucker ranks for a knob from 0 to 1, which is turned until the whole
network has the multiply-accumulates that are allowed. A layer that would cost more than its dense
one stays dense, and so do linear layers.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import tensorly as tl
import tltorch
import torch
from networks import Network
from tensorly.tucker_tensor import validate_tucker_rank
from torch import Tensor, nn

from tenfold import FactorizedConv
from tenfold.compression.survey import Layer, survey
from tenfold.model.replace import substitute

Ranks = tuple[int, ...]  # of out and in, and where a rule has them of the spatial modes
Rule = Callable[[Tensor, float], Ranks]
HALVINGS = 30
MOST = 4  # times the ranks of EVBMF


@dataclass(frozen=True)
class Made:
    """A compressed network, and what is left of the original's MACs."""

    model: nn.Module
    macs: float
    knob: float


def fraction_rule(kernel: Tensor, knob: float) -> Ranks:
    """Tucker-2 with the same fraction of every channel mode (uniform)."""
    return tuple(max(1, round(knob * size)) for size in kernel.shape[:2])


def energy_rule(kernel: Tensor, knob: float) -> Ranks:
    """Tucker-2 that keeps the same energy of every unfolding."""
    return tuple(kept(energies, knob) for energies in spectra(kernel))


def evbmf_rule(kernel: Tensor, knob: float) -> Ranks:
    """Tucker-2 with a multiple of the ranks of EVBMF (Kim et al. 2016, arXiv 1511.06530)."""
    ranks = zip(vbmf(kernel), kernel.shape, strict=False)
    return tuple(min(size, max(1, round(MOST * knob * rank))) for rank, size in ranks)


def tltorch_rule(kernel: Tensor, knob: float) -> Ranks:
    """The ranks that TensorLy-Torch spends a fraction of the parameters on."""
    return tuple(max(1, rank) for rank in validate_tucker_rank(tuple(kernel.shape), rank=knob))


RULES: dict[str, Rule] = {
    "uniform Tucker-2": fraction_rule,
    "energy threshold": energy_rule,
    "EVBMF": evbmf_rule,
    "TensorLy-Torch": tltorch_rule,
}


def compress(network: Network, name: str, budget: float) -> Made:
    """The network by a rule, with at most `budget` of the MACs of all its layers."""
    layers = list(survey(network.model, network.example_inputs))
    convolutions = [layer for layer in layers if layer.config.order > 0]
    weights = {layer.name: network.model.get_submodule(layer.name).weight for layer in layers}
    kernels = {layer.name: weights[layer.name].detach() for layer in convolutions}
    total = sum(layer.macs for layer in layers)
    rule = RULES[name]

    def chosen(knob: float) -> dict[str, Ranks]:
        found = {layer.name: rule(kernels[layer.name], knob) for layer in convolutions}
        dense = {layer.name: layer.macs for layer in convolutions}
        return {
            layer.name: found[layer.name]
            for layer in convolutions
            if macs(layer, found[layer.name]) < dense[layer.name]
        }

    def left(ranks: dict[str, Ranks]) -> float:
        spent = sum(
            macs(layer, ranks[layer.name]) if layer.name in ranks else layer.macs
            for layer in layers
        )
        return spent / total

    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if left(chosen(middle)) <= budget else (low, middle)
    ranks = chosen(low)
    make = by_tltorch if name == "TensorLy-Torch" else by_tucker
    return Made(make(network.model, ranks), left(ranks), low)


def macs(layer: Layer, ranks: Ranks) -> float:
    """MACs of all calls as 1×1, k×k on the core, 1×1."""
    config = layer.config
    dense = layer.macs / (config.out_channels * config.in_channels * prod(config.kernel_size))
    positions = sum(batch * prod(size) for batch, size in map(layer.positions, layer.shapes))
    out, inner = ranks[:2]
    core = out * inner * prod(config.kernel_size)
    return positions * config.in_channels * inner + dense * (core + out * config.out_channels)


def by_tucker(model: nn.Module, ranks: dict[str, Ranks]) -> nn.Module:
    """Replace each convolution by Tucker-2 of these ranks."""
    made = copy.deepcopy(model)
    layers = {
        name: FactorizedConv.from_conv(made.get_submodule(name), rank=rank, factorization="tucker")
        for name, rank in ranks.items()
    }
    return substitute(made, layers)


def by_tltorch(model: nn.Module, ranks: dict[str, Ranks]) -> nn.Module:
    """Give each convolution the kernel of TensorLy-Torch's decomposition, run dense."""
    made = copy.deepcopy(model)
    for name, rank in ranks.items():
        conv = made.get_submodule(name)
        kernel = conv.weight.detach()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[kernel.dim() - 3]
        plain = kind(kernel.shape[1], kernel.shape[0], tuple(kernel.shape[2:]), bias=False)
        plain.weight.data.copy_(kernel)
        with warnings.catch_warnings(), tl.backend_context("pytorch"), torch.no_grad():
            warnings.simplefilter("ignore")
            layer = tltorch.FactorizedConv.from_conv(plain, rank=rank, factorization="tucker")
            conv.weight.copy_(layer.weight.to_tensor())
    return made


def kept(energies: Tensor, fraction: float) -> int:
    """How many of the largest energies make up a fraction of all."""
    sums = energies.cumsum(0) / energies.sum()
    return min(len(energies), int((sums < fraction).sum()) + 1)


_SPECTRA: dict[int, list[Tensor]] = {}
_VBMF: dict[int, Ranks] = {}


def spectra(kernel: Tensor) -> list[Tensor]:
    """The squared singular values of the unfoldings by out and by in, kept per kernel."""
    if kernel.data_ptr() not in _SPECTRA:
        unfolded = [kernel.flatten(1).double(), kernel.movedim(1, 0).flatten(1).double()]
        grams = [matrix @ matrix.mT for matrix in unfolded]
        values = [torch.linalg.eigvalsh(gram).clamp_min(0).flip(0) for gram in grams]
        _SPECTRA[kernel.data_ptr()] = values
    return _SPECTRA[kernel.data_ptr()]


def vbmf(kernel: Tensor) -> Ranks:
    """The ranks of EVBMF, kept per kernel."""
    if kernel.data_ptr() not in _VBMF:
        made = FactorizedConv.from_conv(as_conv(kernel), rank="vbmf", factorization="tucker")
        _VBMF[kernel.data_ptr()] = made.rank
    return _VBMF[kernel.data_ptr()]


def as_conv(kernel: Tensor) -> nn.Module:
    """A convolution with this kernel."""
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[kernel.dim() - 3]
    conv = kind(kernel.shape[1], kernel.shape[0], tuple(kernel.shape[2:]), bias=False)
    conv.weight.data.copy_(kernel)
    return conv
