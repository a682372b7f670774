"""Small networks of many kinds, each trained for a minute on Fashion-MNIST.

They stand for what the four large ones are not: residual, grouped, dilated and depthwise blocks,
transposed convolutions, one and three dimensions, shared weights, linear layers and attention.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A body added to its input, or to a strided 1×1 convolution of it, and a ReLU."""

    def __init__(self, body: nn.Module, given: int, made: int, stride: int) -> None:
        super().__init__()
        same = stride == 1 and given == made
        self.body = body
        self.side = nn.Identity() if same else nn.Conv2d(given, made, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.side(x))


def conv(given: int, made: int, size: int = 3, **options: int) -> list[nn.Module]:
    """A convolution that keeps the size, and batch normalisation."""
    padding = options.get("dilation", 1) * (size // 2)
    return [
        nn.Conv2d(given, made, size, padding=padding, bias=False, **options),
        nn.BatchNorm2d(made),
    ]


def basic(given: int, made: int, stride: int = 1) -> Residual:
    body = nn.Sequential(*conv(given, made, stride=stride), nn.ReLU(), *conv(made, made))
    return Residual(body, given, made, stride)


def bottleneck(given: int, inner: int, made: int, stride: int = 1, **options: int) -> Residual:
    body = nn.Sequential(
        *conv(given, inner, 1),
        nn.ReLU(),
        *conv(inner, inner, stride=stride, **options),
        nn.ReLU(),
        *conv(inner, made, 1),
    )
    return Residual(body, given, made, stride)


def inverted(given: int, made: int, stride: int = 1) -> nn.Module:
    """MobileNet-v2's block: 1×1, depthwise, 1×1."""
    inner = 4 * given
    return nn.Sequential(
        *conv(given, inner, 1),
        nn.ReLU6(),
        *conv(inner, inner, stride=stride, groups=inner),
        nn.ReLU6(),
        *conv(inner, made, 1),
    )


def stem(width: int) -> list[nn.Module]:
    return [*conv(1, width), nn.ReLU()]


def head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]


def resnet() -> nn.Module:
    return nn.Sequential(*stem(32), basic(32, 32), basic(32, 64, 2), basic(64, 128, 2), *head(128))


def bottlenecks() -> nn.Module:
    blocks = [bottleneck(32, 32, 128), bottleneck(128, 32, 128), bottleneck(128, 64, 256, 2)]
    return nn.Sequential(*stem(32), nn.MaxPool2d(2), *blocks, *head(256))


def resnext() -> nn.Module:
    blocks = [bottleneck(32, 64, 128, groups=8), bottleneck(128, 128, 256, 2, groups=8)]
    return nn.Sequential(*stem(32), nn.MaxPool2d(2), *blocks, *head(256))


def dilated() -> nn.Module:
    blocks = [bottleneck(32, 48, 128, dilation=2), bottleneck(128, 48, 128, dilation=4)]
    return nn.Sequential(*stem(32), nn.MaxPool2d(2), *blocks, *head(128))


def mobilenet() -> nn.Module:
    blocks = [inverted(32, 32), inverted(32, 64, 2), inverted(64, 64)]
    return nn.Sequential(*conv(1, 32, stride=2), nn.ReLU6(), *blocks, *conv(64, 256, 1), *head(256))


def vgg() -> nn.Module:
    """Without normalisation, and with wide linear layers."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128 * 49, 256), nn.ReLU(), nn.Linear(256, 10)),
    )


class NeXt(nn.Module):
    """ConvNeXt's block: 7×7 depthwise, and two linear layers on the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        layers = [nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU()]
        self.mix = nn.Sequential(*layers, nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.mix(self.depthwise(x).movedim(1, -1))
        return x + mixed.movedim(-1, 1)


def convnext() -> nn.Module:
    patches = [nn.Conv2d(1, 48, 2, 2), NeXt(48), NeXt(48), nn.Conv2d(48, 96, 2, 2), NeXt(96)]
    return nn.Sequential(*patches, NeXt(96), *head(96))


class UNet(nn.Module):
    """Takes noise out of images: down by pooling, up by transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = _twice(1, 32), _twice(32, 64), _twice(64, 128)
        self.up, self.higher = nn.ConvTranspose2d(128, 64, 2, 2), nn.ConvTranspose2d(64, 32, 2, 2)
        self.back, self.last = _twice(128, 64), _twice(64, 32)
        self.out = nn.Conv2d(32, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.first(x)
        middle = self.second(F.max_pool2d(fine, 2))
        coarse = self.up(self.third(F.max_pool2d(middle, 2)))
        middle = self.higher(self.back(torch.cat([middle, coarse], 1)))
        clean: Tensor = self.out(self.last(torch.cat([fine, middle], 1)))
        return clean


def _twice(given: int, made: int) -> nn.Module:
    return nn.Sequential(*conv(given, made), nn.ReLU(), *conv(made, made), nn.ReLU())


class Rows(nn.Module):
    """An image as a sequence of its rows: one-dimensional convolutions, and an LSTM if asked."""

    def __init__(self, recurrent: bool) -> None:
        super().__init__()
        width = 128
        self.body = nn.Sequential(
            *(nn.Conv1d(28, width, 5, padding="same"), nn.BatchNorm1d(width), nn.ReLU()),
            *(nn.Conv1d(width, width, 5, padding="same", dilation=2), nn.ReLU()),
            *(nn.Conv1d(width, width, 4, padding="same"), nn.ReLU()),
        )
        self.recurrent = nn.LSTM(width, width, batch_first=True) if recurrent else None
        self.out = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.body(x[:, 0]).mT
        if self.recurrent is not None:
            steps, _ = self.recurrent(steps)
        scores: Tensor = self.out(steps.mean(1))
        return scores


class Volume(nn.Module):
    """An image in four brightnesses, one behind the other: three-dimensional convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv3d(1, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU()),
            *(nn.Conv3d(16, 32, 3, stride=2, padding=1), nn.BatchNorm3d(32), nn.ReLU()),
            *(nn.Conv3d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1)),
            *(nn.Flatten(), nn.Linear(64, 10)),
        )

    def forward(self, x: Tensor) -> Tensor:
        gains = torch.linspace(0.5, 1, 4)[:, None, None]
        scores: Tensor = self.body(F.avg_pool2d(x, 2)[:, :, None] * gains)
        return scores


class Shared(nn.Module):
    """One convolution called four times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Conv2d(1, 48, 3, 2, 1), nn.Conv2d(48, 48, 3, padding=1)
        self.head = nn.Sequential(*head(48))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for _ in range(4):
            x = x + F.relu(self.again(x))
        scores: Tensor = self.head(x)
        return scores


class Transformer(nn.Module):
    """Patches of 4×4, and two encoder layers."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.places = nn.Parameter(0.02 * torch.randn(1, 49, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT + self.places
        scores: Tensor = self.head(self.encoder(tokens).mean(1))
        return scores


SMALL: dict[str, Callable[[], nn.Module]] = {
    "resnet": resnet,
    "bottlenecks": bottlenecks,
    "resnext": resnext,
    "dilated": dilated,
    "mobilenet": mobilenet,
    "vgg": vgg,
    "convnext": convnext,
    "unet": UNet,
    "rows": partial(Rows, recurrent=False),
    "lstm": partial(Rows, recurrent=True),
    "volume": Volume,
    "shared": Shared,
    "transformer": Transformer,
}
