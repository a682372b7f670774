"""The demo's network: five convolutions for 28×28 grey images of ten kinds of clothing."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

WIDTHS = (32, 64, 64, 128, 128)
POOLED_AFTER = (1, 3)  # the two convolutions whose maps are halved


def cnn() -> nn.Sequential:
    """Build the network, untrained: `(batch, 1, 28, 28)` in, `(batch, 10)` logits out."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 1
    for index, width in enumerate(WIDTHS):
        layers[f"conv{index}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        layers[f"norm{index}"] = nn.BatchNorm2d(width)
        layers[f"relu{index}"] = nn.ReLU(inplace=True)
        if index in POOLED_AFTER:
            layers[f"pool{index}"] = nn.MaxPool2d(2)
        channels = width
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classify"] = nn.Linear(channels, 10)
    return nn.Sequential(layers)
