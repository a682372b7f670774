"""The networks that `training.py` trains, dense and low-rank, and their sizes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tenfold
from tenfold import factorize
from tenfold.compression.survey import survey
from tenfold.demo.cnn import cnn

FORMAT = "spatial_svd"


class Block(nn.Module):
    """A residual block of two 3×3 convolutions, with the shortcut of He et al. 2016, option A."""

    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(given, made, 3, stride, 1, bias=False)
        self.norm0 = nn.BatchNorm2d(made)
        self.conv1 = nn.Conv2d(made, made, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(made)
        self.stride, self.more = stride, made - given

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(F.relu(self.norm0(self.conv0(x)))))
        side = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(y + side)


def resnet20() -> nn.Sequential:
    """ResNet-20 for grey images (He et al. 2016, arXiv 1512.03385, section 4.2)."""
    widths = [16] * 3 + [32] * 3 + [64] * 3
    blocks = [
        Block(given, made, 1 + (made > given))
        for given, made in zip([16, *widths], widths, strict=False)
    ]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    stem = [nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, *head)


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {"demo": cnn, "resnet20": resnet20}
ENDS = {"demo": ["conv0", "classify"], "resnet20": ["0", "14"]}  # stay dense


def numel(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def within(model: nn.Module, network: str, budget: float, form: str) -> float:
    """The largest rank whose low-rank copy has at most `budget` of the whole network."""
    most, low, high = budget * numel(model), 0.0, budget
    for _ in range(8):
        rank = (low + high) / 2
        made = factorize(
            model, rank=rank, init="variance", factorization=form, exclude=ENDS[network]
        )
        low, high = (rank, high) if numel(made) <= most else (low, rank)
    return low


def low_rank(network: str, budget: float, init: str, form: str) -> nn.Module:
    model = NETWORKS[network]()
    rank = within(model, network, budget, form)
    return factorize(model, rank=rank, init=init, factorization=form, exclude=ENDS[network])


def macs(model: nn.Module) -> int:
    """Multiply-accumulates of all convolutions and linear layers for one image."""
    total = 0
    for layer in survey(model, (torch.zeros(1, 1, 28, 28),)):
        module = model.get_submodule(layer.name)
        if isinstance(module, tenfold.FactorizedConv):
            total += sum(module.macs(layer.positions(shape)[1]) for shape in layer.shapes)
        else:
            total += layer.macs
    return total
