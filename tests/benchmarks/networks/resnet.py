"""Residual networks of any depth, in two and three dimensions, with random weights.

He et al. 2016, arXiv 1512.03385; `r3d_18` is that of Tran et al. 2018, arXiv 1711.11248. They are
for time: their outputs say nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class Block(nn.Module):
    """Convolutions of some sizes, each normalised, beside the identity or a 1×1 convolution."""

    def __init__(self, given: int, widths: tuple[int, ...], sizes: tuple[int, ...], **kind: Any):
        super().__init__()
        stride, order = kind["stride"], kind["order"]
        strided = len(sizes) // 2 if len(sizes) == 3 else 0
        layers: list[nn.Module] = []
        inner = given
        for index, (width, size) in enumerate(zip(widths, sizes, strict=True)):
            step = stride if index == strided else 1
            layers += [*normalised(inner, width, size, step, order), nn.ReLU()]
            inner = width
        self.body = nn.Sequential(*layers[:-1])
        same = stride == 1 and given == inner
        self.beside = (
            nn.Identity() if same else nn.Sequential(*normalised(given, inner, 1, stride, order))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.beside(x))


def normalised(given: int, made: int, size: int, stride: int, order: int) -> list[nn.Module]:
    """A convolution without a bias, and the normalisation after it."""
    conv: Any = (nn.Conv2d, nn.Conv3d)[order - 2]
    norm: Any = (nn.BatchNorm2d, nn.BatchNorm3d)[order - 2]
    return [conv(given, made, size, stride, size // 2, bias=False), norm(made)]


def resnet(depth: int, order: int = 2, classes: int = 1000) -> nn.Sequential:
    """A residual network in eval mode: of bottlenecks from depth 50 on."""
    deep = depth >= 50
    layers: list[nn.Module] = [*normalised(3, 64, 7, 2, order), nn.ReLU()]
    if order == 2:
        layers.append(nn.MaxPool2d(3, 2, 1))
    given = 64
    for stage, count in enumerate(DEPTHS[depth]):
        width = 64 << stage
        for index in range(count):
            stride = 2 if stage and not index else 1
            widths, sizes = (
                ((width, width, 4 * width), (1, 3, 1)) if deep else ((width,) * 2, (3, 3))
            )
            layers.append(Block(given, widths, sizes, stride=stride, order=order))
            given = widths[-1]
    pool: Any = (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[order - 2]
    layers += [pool(1), nn.Flatten(), nn.Linear(given, classes)]
    return nn.Sequential(*layers).eval()


def settled(model: nn.Module, x: Tensor) -> nn.Module:
    """The same with its normalisations' statistics taken, without which deep outputs vanish."""
    model.train()
    with torch.no_grad():
        model(x)
    return model.eval()
